"""The upload of a folder to the Hub: one commit, so that no repository ever holds a part of a model."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mebert.errors import UserError, error_chain
from mebert.storage.hub import connection_fault, is_of_files
from mebert.storage.json_values import summary

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOG_IN = "hf auth login (or set HF_TOKEN)"
KEPT = (".gitattributes", "README.md")  # what an empty repository of the Hub may have


@dataclass(frozen=True)
class Target:
    """Where a model goes.

    Attributes:
        repo: `user/name`.
        private: Whether only its owner may see it.
        update: Whether a model that is there is replaced.
        token: Of the account; None: that of `hf auth login` or `HF_TOKEN`.
    """

    repo: str
    private: bool = False
    update: bool = False
    token: str | None = None


def check_repo(repo: str) -> None:
    """Refuse a name that the Hub could not have."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise UserError(f"repo {repo!r} must be user/name: your user or organisation on the Hub, and a name")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(
            f"repo {repo!r} is no name for the Hub: give user/name of letters, digits, - _ and . (96 at most)"
        ) from error


def check_licence(licence: str | None) -> None:
    """Refuse what cannot be a licence's name on the Hub, which knows them all."""
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.\-]*", licence):
        raise UserError(
            f"license {licence!r} is no name of a licence on the Hub: give one such as apache-2.0, mit or other"
        )


def upload(folder: Path, target: Target, message: str) -> str:
    """Make the repository where it is missing, and put all files of a folder into it as one commit.

    Returns:
        The address of the model's page.

    Raises:
        UserError: There is no token, or no right; the repository holds a model, or is public; or the Hub cannot be
            reached. The repository then is as it was, or new and empty.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    check_repo(target.repo)
    token = target.token or get_token()
    if not token:
        raise UserError(f"push needs a token with write access, and there is none: log in with {LOG_IN}")
    api = HfApi(token=token, library_name="mebert")
    with push_errors(target.repo), _quiet_retries():
        owner = api.whoami()
        names = [owner["name"], *(one["name"] for one in owner.get("orgs", []))]
        if (user := target.repo.partition("/")[0]) not in names:
            raise UserError(
                f"repo {target.repo!r}: the token is that of {owner['name']}, who may not write to {user}; give one of "
                f"{', '.join(f'{name}/...' for name in names)}, or log in as another: {LOG_IN}"
            )
        there = _files_there(api, target)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
        new = {path.relative_to(folder).as_posix(): path for path in files}
        gone = [CommitOperationDelete(name) for name in there if name not in new and name != KEPT[0]]
        added = [CommitOperationAdd(name, path) for name, path in new.items()]
        api.create_commit(target.repo, [*gone, *added], commit_message=message)
    return f"{api.endpoint}/{target.repo}"


@contextmanager
def _quiet_retries() -> Iterator[None]:
    """Hide what huggingface_hub says of each attempt; the last one's fault is an error."""
    from huggingface_hub.utils import logging as hub_logging

    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)


def _files_there(api: HfApi, target: Target) -> list[str]:
    """The files of the repository, which is made where it is missing."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(target.repo, private=target.private or None)  # None: as the organisation has it
        return []
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
    found = api.model_info(target.repo)
    if target.private and not found.private:
        raise UserError(
            f"--private, but {target.repo} exists and is public: make it private first, in its settings on the Hub, or "
            "give another name"
        )
    there = [one.rfilename for one in found.siblings or []]
    if not target.update and any(name not in KEPT for name in there):
        raise UserError(
            f"repo {target.repo!r} exists and holds files: give --update to replace them all by this model "
            "and its card (the history keeps them), or another name"
        )
    return there


@contextmanager
def push_errors(repo: str) -> Iterator[None]:
    """Turn what goes wrong while something is uploaded into a `UserError`."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except UserError:
        raise
    except KeyboardInterrupt:
        told = f"push to {repo} was interrupted: either none of the model was published or all of it"
        print(f"mebert: {told}; give the same command again, with --update if it says so", file=sys.stderr)
        raise
    except Exception as error:
        if not is_of_files(error):
            raise
        chain = error_chain(error)
        codes = [link.response.status_code for link in chain if isinstance(link, HfHubHTTPError)]
        text = " ".join(str(error).split())
        if any(isinstance(link, OfflineModeIsEnabled) for link in chain):
            fault = "HF_HUB_OFFLINE is set: unset it"
        elif 401 in codes:
            fault = f"the Hub does not accept the token: log in anew with {LOG_IN}"
        elif 403 in codes:
            fault = (
                "the token may not write there: make one with write access (Settings, Access Tokens) and log in with "
                f"{LOG_IN}, or give a name of your own"
            )
        elif 404 in codes:
            fault = "it is gone, or the token may not see it; check the name and the token"
        elif found := re.search(r"Invalid metadata in README\.md\.?\s*-?\s*(.+)", text):
            fault = f"the Hub refuses the card ({found[1][:200]}); check --license"
        elif isinstance(error, HFValidationError):
            fault = f"the Hub could not have such a name ({summary(error)})"
        else:
            fault = connection_fault(chain) or f"the upload failed ({summary(error)}); try again"
        raise UserError(f"cannot push to {repo}: {fault}; no part of the model was published") from error
