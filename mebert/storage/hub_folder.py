"""A model of the Hub as a folder of the cache: the files that one way to open it needs, all of one commit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mebert.errors import UserError
from mebert.storage.download_bar import DownloadBar
from mebert.storage.hub import hub_errors
from mebert.storage.model_folder import SPEC_FILE, saved_model_folder, split_revision

ONNX = "onnx"
"""The folder of a pushed model that holds its export."""

WEIGHTS = ("*.json", "*.safetensors", "*.txt", "*.model")


def hub_folder(
    model: str,
    needed: str,
    only: Sequence[str],
    but: Sequence[str] = (),
    revision: str | None = None,
    token: str | bool | None = None,
) -> Path:
    """Fetch a part of a repository, of the commit at which a revision is now.

    Args:
        model: Hub id, or `<id>@<revision>`.
        needed: A file that must be there.
        only: Patterns of the files that are fetched.
        but: Patterns of those that are not.
        revision: A branch, tag or commit; None: `main`.
        token: Of the account that may read it; None: that of `hf auth login` or `HF_TOKEN`.

    Raises:
        UserError: There is no such repository, revision or file, or it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from transformers.utils import cached_file  # not at the top: an export is served without transformers

    repo, named = split_revision(model)
    if revision is not None and named is not None:
        raise UserError(f"revision {revision!r} and model {model!r} both name a revision; give it once")
    with hub_errors(f"model {model!r}"):
        wanted, bar = revision or named or "main", DownloadBar
        file = Path(str(cached_file(repo, needed, revision=wanted, token=token, tqdm_class=bar)))
        commit = file.parents[needed.count("/")].name
        found = snapshot_download(
            repo, revision=commit, token=token, allow_patterns=list(only), ignore_patterns=list(but), tqdm_class=bar
        )
    return Path(found)


def model_folder(model: str | Path, revision: str | None = None, token: str | bool | None = None) -> str:
    """The folder that holds a model's exits: of a run or folder its own, of a Hub id one of the cache.

    Args:
        model: A folder, a Hub id or `<id>@<revision>`.
        revision: Of a Hub id: a branch, tag or commit.
        token: As in `hub_folder`.
    """
    if Path(model).is_dir():
        check_no_revision(model, revision)
        return saved_model_folder(model) or str(model)
    return str(hub_folder(str(model), SPEC_FILE, WEIGHTS, [f"{ONNX}/*"], revision, token))


def check_no_revision(folder: str | Path, revision: str | None) -> None:
    """Refuse a revision of a local folder."""
    if revision is not None:
        raise UserError(f"revision {revision!r} is for a Hub id, and {folder} is a folder here; leave it out")
