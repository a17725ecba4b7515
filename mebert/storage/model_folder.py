"""Where a saved model is: in a folder, in a run's folder `model`, or in a repository on the Hub."""

from __future__ import annotations

from pathlib import Path

from mebert.storage.hub import hub_errors

SPEC_FILE = "exits.json"


def split_revision(model: str) -> tuple[str, str | None]:
    """A Hub id and the revision behind its `@`, if any; a folder stays as it is.

    >>> split_revision("user/name@v1.0")
    ('user/name', 'v1.0')
    """
    repo, _, revision = model.partition("@")
    return (model, None) if Path(model).exists() or not revision else (repo, revision)


def saved_model_folder(model: str | Path) -> str | None:
    """The folder or Hub id that holds the exits: `model` itself or, in a run, its folder `model`; None: no exits.

    A Hub id may have a revision behind it, `user/name@v1.0`.

    Raises:
        UserError: There is no such folder or id.
    """
    path = Path(model)
    if path.is_dir():
        holding = [p for p in (path, path / "model") if (p / SPEC_FILE).is_file()]
        return str(holding[0]) if holding else None
    from transformers.utils import cached_file

    from mebert.storage.download_bar import DownloadBar

    with hub_errors(f"model {str(model)!r} (there is no such folder, so it is read as a Hub id)"):
        repo, revision = split_revision(str(model))
        revision = revision or "main"
        quietly = {"tqdm_class": DownloadBar, "_raise_exceptions_for_missing_entries": False}
        found = cached_file(repo, SPEC_FILE, revision=revision, **quietly)
        if found is None:  # an encoder without exits, or no such id, for which this raises
            cached_file(repo, "config.json", revision=revision, tqdm_class=DownloadBar)
    return None if found is None else str(model)
