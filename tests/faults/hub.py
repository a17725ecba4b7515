"""What goes wrong on the way from the Hub."""

from __future__ import annotations

from collections.abc import Callable

from faults.fault import Fault
from faults.hub_server import CONFIG, Answer, against, cut_off, file, late, refused

from mebert import EarlyExitClassifier
from mebert.data import TextDataModule
from mebert.data.tokenised import load_tokenizer
from mebert.models import build_encoder

__all__ = ["FAULTS"]


def at(answer: Answer | None, do: Callable[[], object]) -> Callable[[], object]:
    """Do it with a Hub that answers so."""

    def call() -> object:
        with against(answer):
            return do()

    return call


def encoder() -> object:
    return build_encoder("someone/encoder")


def task() -> object:
    data = TextDataModule("rte", tokenizer="tokenizer")
    data.setup("fit")
    return data


FAULTS = [
    Fault("an id that nobody has", at(refused(404, "RepoNotFound"), encoder), "'someone/encoder'"),
    Fault("a gated model without a token", at(refused(401, "GatedRepo"), encoder), "'someone/encoder'"),
    Fault("a private model with a wrong token", at(refused(403), encoder), "'someone/encoder'"),
    Fault("a Hub that is overloaded (503)", at(refused(503), encoder), "'someone/encoder'"),
    Fault("too many requests (429)", at(refused(429), encoder), "'someone/encoder'"),
    Fault("a Hub that does not answer", at(late, encoder), "'someone/encoder'"),
    Fault("no Hub at that address", at(None, encoder), "'someone/encoder'"),
    Fault("offline, with nothing in the cache", encoder, "'someone/encoder'"),
    Fault(
        "a download that breaks off",
        at(cut_off({"config.json": CONFIG, "model.safetensors": bytes(9000)}), encoder),
        "'someone/encoder'",
    ),
    Fault("a page for signing in instead of the file", at(file(b"<html>Sign in</html>"), encoder), "'someone/encoder'"),
    Fault(
        "a tokenizer that nobody has",
        at(refused(404, "RepoNotFound"), lambda: load_tokenizer("someone/tokenizer")),
        "'someone/tokenizer'",
    ),
    Fault(
        "a model without exits",
        at(cut_off({"config.json": CONFIG}), lambda: EarlyExitClassifier.from_pretrained("someone/model")),
        "'someone/model'",
    ),
    Fault("a task's data, Hub overloaded", at(refused(503), task), "127.0.0.1"),
    Fault("a task's data, which are gone", at(refused(404, "RepoNotFound"), task), "127.0.0.1"),
]
