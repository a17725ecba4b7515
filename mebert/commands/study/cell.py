"""One cell on disk: its configuration, whether it is done, what can be resumed, what stays of it.

    <out>/<task>/<recipe>/seed_<n>/
      cell.yaml     the run's configuration, for `fit`
      log.txt       what the run printed
      done.json     which run counts, and its seconds; written last
      version_<n>/  the run's own folder, one more for each time it was resumed

A cell without done.json is not done, whatever else there is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mebert.commands.study.claim import Claim
from mebert.commands.study.grid import Cell
from mebert.errors import UserError

__all__ = ["CellFolder", "Done", "refuse_changed"]

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Done:
    """A finished run.

    Attributes:
        run: Its folder, with evaluation.json.
        seconds: From its start (the last one, if it was resumed) to its end.
    """

    run: Path
    seconds: float

    def evaluation(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        content: dict[str, Any] = json.loads((self.run / EVALUATION).read_text(encoding="utf-8"))
        return content


class CellFolder:
    """What there is of a cell.

    Args:
        cell: The cell.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.config = cell.folder / "cell.yaml"
        self.log = cell.folder / "log.txt"
        self.claim = Claim(cell.folder / "running.json")
        self._marker = cell.folder / "done.json"

    def done(self) -> Done | None:
        """The finished run, or None."""
        try:
            marker = json.loads(self._marker.read_text(encoding="utf-8"))
            found = Done(self.cell.folder / marker["run"], float(marker["seconds"]))
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return found if (found.run / EVALUATION).is_file() else None

    def finish(self, seconds: float, keep: str) -> Done:
        """Mark the cell as done and remove what shall not stay.

        Args:
            seconds: How long the run took.
            keep: As `Study.keep`.

        Raises:
            UserError: The run has left no evaluation.json.
        """
        evaluated = [run for run in self._runs() if (run / EVALUATION).is_file()]
        if not evaluated:
            raise UserError(f"{self.cell.folder} has no {EVALUATION}: is test_after_fit off, or the data without test?")
        write_atomically(self._marker, json.dumps({"run": evaluated[-1].name, "seconds": round(seconds, 1)}) + "\n")
        unwanted = {"results": ("checkpoints", "model"), "models": ("checkpoints",), "all": ()}[keep]
        for run in self._runs():
            for name in unwanted:
                shutil.rmtree(run / name, ignore_errors=True)
        return Done(evaluated[-1], seconds)

    def prepare(self) -> Path | None:
        """Write the configuration; returns the checkpoint to go on from, or None to begin.

        Runs of other settings are removed.
        """
        if self.changed():
            for run in self._runs():
                shutil.rmtree(run)
        self.cell.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config, yaml.safe_dump(self.cell.config, sort_keys=False))
        places = [run / "checkpoints" / f"{name}.ckpt" for run in self._runs() for name in ("last-previous", "last")]
        checkpoints = [path for path in places if path.is_file()]
        return next((path for path in reversed(checkpoints) if _readable(path)), None)

    def changed(self) -> bool:
        """Whether what is here was run with other settings than the cell has now."""
        try:
            before = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (FileNotFoundError, yaml.YAMLError):
            return False
        return _but_for_place(before) != _but_for_place(self.cell.config)

    def last_words(self, lines: int = 3) -> str:
        """The end of the log, as one indented block."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        said = [line.rstrip() for line in text.splitlines() if line.strip()]
        return "\n".join(f"    {line}" for line in said[-lines:])

    def _runs(self) -> list[Path]:
        """The run folders, oldest first."""
        found = self.cell.folder.glob("version_*")
        return sorted(found, key=lambda path: int(path.name.removeprefix("version_")))


def refuse_changed(cells: list[Cell]) -> None:
    """Do not mix results of different settings.

    Raises:
        UserError: Finished cells were run with other settings.
    """
    changed = [folder for folder in map(CellFolder, cells) if folder.done() is not None and folder.changed()]
    if changed:
        first = changed[0]
        before = yaml.safe_load(first.config.read_text(encoding="utf-8"))
        key, old, new = next(_differences(before, first.cell.config))
        raise UserError(
            f"{len(changed)} of the study's runs were done with other settings (first: {first.cell.name}, {key}: "
            f"{old!r}, now {new!r}); give the study another name, or delete their folders, such as {first.cell.folder}"
        )


def write_atomically(path: Path, text: str) -> None:
    """A text file that is never seen half written."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _but_for_place(config: Any) -> Any:
    """A configuration without where it writes, which changes when the folder is moved."""
    if not isinstance(config, dict) or not isinstance(config.get("trainer"), dict):
        return config
    return {**config, "trainer": {k: v for k, v in config["trainer"].items() if k != "default_root_dir"}}


def _differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) wherever two configurations differ; None where there is none."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*now, *before]):
            if f"{key}{name}" != "trainer.default_root_dir":
                yield from _differences(before.get(name), now.get(name), f"{key}{name}.")
    elif before != now:
        yield key.rstrip("."), before, now


def _readable(checkpoint: Path) -> bool:
    from mebert.storage.checkpoints import read_checkpoint

    try:
        read_checkpoint(checkpoint)
    except UserError:  # the run was stopped while it wrote
        return False
    return True
