"""Errors of the Hugging Face Hub, its data sets and its models, as one line each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mebert.errors import UserError

# Packages whose exceptions mean that a download, or a downloaded file, is at fault.
NETWORK = ("huggingface_hub", "httpx", "httpcore", "requests", "urllib3", "aiohttp", "fsspec")
FILES = ("datasets", "safetensors", "tokenizers")

# By the names of their types, so that no library is imported for a message.
NOT_FOUND = {
    *("RepositoryNotFoundError", "DatasetNotFoundError", "EntryNotFoundError", "RevisionNotFoundError"),
    "HFValidationError",  # no id that the Hub could have: a folder was meant
}
UNREACHABLE = {"ConnectionError", "ConnectError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}
CODE_TEXTS = ("trust_remote_code", "custom code", "dataset scripts are no longer supported", "weights only load failed")
LACKS = re.compile(r"does not appear to have a file named (\S+)")


def hub_url() -> str:
    """Return the address of the Hub in use."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn what goes wrong while something is fetched from the Hub or read from a folder into a `UserError`.

    Args:
        what: What is fetched, with its id or path, to stand after "cannot load".

    Raises:
        UserError: With the original error as its cause.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        chain = _chain(error)
        if not any(_is_expected(link) for link in chain):
            raise
        raise UserError(f"cannot load {what}: {_explain(chain)}") from error


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and what it was raised from, the outermost first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


def _comes_from(error: BaseException, packages: tuple[str, ...]) -> bool:
    return any(base.__module__.partition(".")[0].startswith(packages) for base in type(error).__mro__)


def _is_expected(error: BaseException) -> bool:
    # ValueError, KeyError: raised by transformers and datasets for a folder that holds something else;
    # a bare Exception: raised by tokenizers for a broken tokenizer.json.
    plain = isinstance(error, OSError | ValueError | KeyError) or type(error) is Exception
    return plain or _comes_from(error, NETWORK + FILES) or _brings_code(str(error))


def _brings_code(text: str) -> bool:
    return any(part in text.lower() for part in CODE_TEXTS)


def _explain(chain: list[BaseException]) -> str:
    names = {base.__name__ for link in chain for base in type(link).__mro__}
    text = " ".join(str(link) for link in chain).lower()
    if _brings_code(text):
        return (
            "it brings code of its own, which mebert never runs; take one that is weights or rows alone (safetensors, "
            "CSV, JSONL, Parquet), or convert it yourself where you trust it"
        )
    status = next((code for link in chain if (code := _status(link))), 0)
    # The Hub also answers 401 for an id that does not exist, to users who are not logged in.
    if status in (401, 403) and ("GatedRepoError" in names or "RepositoryNotFoundError" not in names):
        return (
            f"the Hub at {hub_url()} refuses it (HTTP {status}): check the spelling; if the repository is gated or"
            " private, accept its terms on its page and log in (hf auth login, or set HF_TOKEN)"
        )
    if status == 429 or status >= 500:
        return (
            f"the Hub at {hub_url()} is overloaded or out of order (HTTP {status}); try again later, or give a local"
            " folder or own files"
        )
    if any(type(link).__name__.endswith("Timeout") for link in chain):
        return f"the Hub at {hub_url()} did not answer in time; try again, or give a local folder or own files"
    if names & UNREACHABLE:  # before NOT_FOUND: what is not in the cache is an EntryNotFoundError, too
        return (
            f"the Hub at {hub_url()} cannot be reached, and the cache has no complete copy; check the network"
            " and HF_ENDPOINT, or give a local folder or own files"
        )
    if names & NOT_FOUND:
        return f"neither a local folder nor a repository at {hub_url()} (or one that needs a login); check the spelling"
    if lacks := LACKS.search(text):
        return f"there is no {lacks[1].rstrip('.')} in it; check the id or the folder"
    if network := [link for link in chain if _comes_from(link, NETWORK)]:
        return (
            f"the download from {hub_url()} broke off ({_first_line(network[-1])}); try again, check the"
            " network and HF_ENDPOINT, or give a local folder or own files"
        )
    # The innermost is the most specific, but the text of a KeyError is a key alone.
    telling = [link for link in chain if not isinstance(link, KeyError | StopIteration)] or chain
    return f"the files are not usable ({_first_line(telling[-1])}); check what is there, or fetch it anew"


def _status(error: BaseException) -> int:
    """The HTTP status of an error; 0 without one."""
    return int(getattr(getattr(error, "response", None), "status_code", None) or 0)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
