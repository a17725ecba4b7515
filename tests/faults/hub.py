"""What goes wrong on the way from the Hub."""

from collections.abc import Callable

from faults.fault import Fault
from faults.hub_server import CONFIG, Answer, against, cut_off, file, late, refused

from mebert import EarlyExitClassifier
from mebert.data import TextDataModule
from mebert.data.tokenizers import load_tokenizer
from mebert.models import build_encoder


def encoder() -> object:
    return build_encoder("someone/encoder")


def task() -> object:
    data = TextDataModule("rte", tokenizer="tokenizer")
    data.setup("fit")
    return data


def at(what: str, answer: Answer | None, says: str, do: Callable[[], object] = encoder) -> Fault:
    """Do it with a Hub that answers so."""

    def call() -> object:
        with against(answer):
            return do()

    return Fault(what, call, says)


GONE = "neither a local folder nor a repository at http://127.0.0.1"
BUSY = "is overloaded or out of order (HTTP {})"
UNREACHABLE = "cannot be reached, and the cache has no complete copy"
WEIGHTS = {"config.json": CONFIG, "model.safetensors": bytes(9000)}
nobody = refused(404, "RepoNotFound")

FAULTS = [
    at("an id that nobody has", nobody, GONE),
    at("a gated model without a token", refused(401, "GatedRepo"), "refuses it (HTTP 401)"),
    at("a private model with a wrong token", refused(403), "refuses it (HTTP 403)"),
    at("a Hub that is overloaded (503)", refused(503), BUSY.format(503)),
    at("too many requests (429)", refused(429), BUSY.format(429)),
    at("a Hub that does not answer", late, "did not answer in time"),
    at("no Hub at that address", None, UNREACHABLE),
    Fault("offline, with nothing in the cache", encoder, UNREACHABLE),
    at("a download that breaks off", cut_off(WEIGHTS), "the download from http://127.0.0.1"),
    at(
        "a page for signing in instead of the file",
        file(b"<html>Sign in</html>"),
        "someone/encoder/config.json is not valid JSON",
    ),
    at("a tokenizer that nobody has", nobody, GONE, lambda: load_tokenizer("someone/tokenizer")),
    at(
        "a model without exits",
        cut_off({"config.json": CONFIG}),
        "there is no exits.json in it",
        lambda: EarlyExitClassifier.from_pretrained("someone/model"),
    ),
    at("a task's data, Hub overloaded", refused(503), BUSY.format(503), task),
    at("a task's data, which are gone", nobody, GONE, task),
    at("a task's data, no Hub at that address", None, UNREACHABLE, task),
]
