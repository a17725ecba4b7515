"""Errors of the Hugging Face Hub, its data sets and its models, as one line each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb

from mebert.errors import UserError, error_chain
from mebert.storage.json_values import summary

# Packages whose exceptions mean that a download is at fault.
NETWORK = ("huggingface_hub", "httpx", "httpcore", "requests", "urllib3", "aiohttp", "fsspec")
# In which, or in what they call, a wrong value of a file shows itself as an exception of any type.
LIBRARIES = ("transformers", "tokenizers", "datasets", "safetensors", "huggingface_hub", "torch", "pyarrow")
INVALID = "StrictDataclass"  # of huggingface_hub, too, and about a value in config.json

# By the names of their types, so that no library is imported for a message.
NOT_FOUND = {
    *("RepositoryNotFoundError", "DatasetNotFoundError", "EntryNotFoundError", "RevisionNotFoundError"),
    "HFValidationError",  # no id that the Hub could have: a folder was meant
}
UNREACHABLE = {"ConnectionError", "ConnectError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}
CODE_TEXTS = ("trust_remote_code", "custom code", "dataset scripts are no longer supported", "weights only load failed")
INSTEAD = "give a local folder or own files"
LACKS = re.compile(r"does not appear to have a file named (\S+)")


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turn what goes wrong while something is fetched from the Hub or read from a folder into a `UserError`.

    What libraries raise for a file with wrong values is of any type; what is raised outside them, but for the types
    that stand for files and values, is a mistake in a program and stays what it is.

    Args:
        what: What is fetched, with its id or path; it stands after "cannot load".
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not is_of_files(error):
            raise
        raise UserError(f"cannot load {what}: {_explain(error_chain(error))}") from error


def is_of_files(error: BaseException) -> bool:
    """Whether an error is one of files, values or the network, and none of a program."""
    if not isinstance(error, Exception):
        return type(error).__name__ == "PanicException"  # of code written in Rust
    if isinstance(error, OSError | ValueError | KeyError) or _comes_from(error, NETWORK + LIBRARIES):
        return True
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    return type(error) is Exception or any(name.partition(".")[0] in LIBRARIES for name in modules)


def _comes_from(error: BaseException, packages: tuple[str, ...]) -> bool:
    return any(base.__module__.partition(".")[0].startswith(packages) for base in type(error).__mro__)


def _brings_code(text: str) -> bool:
    return any(part in text.lower() for part in CODE_TEXTS)


def hub_address() -> str:
    """Where the Hub is."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def connection_fault(chain: list[BaseException], instead: str = "", besides: str = "") -> str | None:
    """What is wrong with the Hub or with the way to it, and what to do; None where it is something else.

    Args:
        chain: An exception and its causes.
        instead: What else to do, behind the advice.
        besides: What else is wrong where the Hub cannot be reached.
    """
    hub, status = hub_address(), _status(chain)
    if any(isinstance(link, UnicodeEncodeError) and link.encoding == "ascii" for link in chain):  # of its header
        return "the token has a character that no token of the Hub has: hf auth login, or set HF_TOKEN anew"
    if status == 429 or status >= 500:
        return f"the Hub at {hub} is overloaded or out of order (HTTP {status}); try again later{instead}"
    if any(type(link).__name__.endswith("Timeout") for link in chain):
        return f"the Hub at {hub} did not answer in time; try again{instead}"
    if _names(chain) & UNREACHABLE:
        return f"the Hub at {hub} cannot be reached{besides}; check the network and HF_ENDPOINT{instead}"
    return None


def _names(chain: list[BaseException]) -> set[str]:
    return {base.__name__ for link in chain for base in type(link).__mro__}


def _status(chain: list[BaseException]) -> int:
    codes = [getattr(getattr(link, "response", None), "status_code", None) for link in chain]
    return int(next(filter(None, codes), 0))


def _explain(chain: list[BaseException]) -> str:
    hub, names, status = hub_address(), _names(chain), _status(chain)
    text = " ".join(str(link) for link in chain).lower()
    if _brings_code(text):
        return (
            "it brings code of its own, which mebert never runs; take one that is weights or rows alone (safetensors, "
            "CSV, JSONL, Parquet), or convert it yourself where you trust it"
        )
    lacking = [str(link).lower() for link in chain if isinstance(link, ImportError)]
    if any(package in told for told in lacking for package in ("sentencepiece", "tiktoken")):  # transformers tries both
        return "reading its SentencePiece file takes two more packages: pip install sentencepiece protobuf"
    # The Hub also answers 401 for an id that does not exist, to users who are not logged in.
    if status in (401, 403) and ("GatedRepoError" in names or "RepositoryNotFoundError" not in names):
        return (
            f"the Hub at {hub} refuses it (HTTP {status}): check the spelling; if the repository is gated or private, "
            "accept its terms on its page and log in (hf auth login, or set HF_TOKEN)"
        )
    if "RevisionNotFoundError" in names:
        return f"it has no such revision at {hub}; give one of its branches, tags or commits"
    if fault := connection_fault(chain, f", or {INSTEAD}", ", and the cache has no complete copy"):
        return fault  # before NOT_FOUND: what is not in the cache is an EntryNotFoundError, too
    if names & NOT_FOUND:
        return f"neither a local folder nor a repository at {hub} (or one that needs a login); check the spelling"
    if lacks := LACKS.search(text):
        return f"there is no {lacks[1].rstrip('.')} in it; check the id or the folder"
    if invalid := [link for link in chain if type(link).__name__.startswith(INVALID)]:
        return f"its config.json has a wrong value ({summary(invalid[-1])}); correct it, or fetch it anew"
    if network := [link for link in chain if _comes_from(link, NETWORK)]:
        return (
            f"the download from {hub} broke off ({_told(network[-1])}); try again, check the network and "
            f"HF_ENDPOINT, or {INSTEAD}"
        )
    # The innermost is the most specific, but the text of a KeyError is a key alone.
    telling = [link for link in chain if not isinstance(link, KeyError | StopIteration)] or chain
    return f"the files are not usable ({_told(telling[-1])}); check what is there, or fetch it anew"


def _told(error: BaseException) -> str:
    text = summary(error)
    return text if text.startswith(type(error).__name__) else f"{type(error).__name__}: {text}"
