"""One cell of a study: a recipe on a task with a seed, and its folder <out>/<task>/<recipe>/seed_<n>.

It has cell.yaml (the configuration, for `fit`), log.txt, and a run version_<n> for each time that it was resumed.
done.json says which run counts, and its seconds; it is written last: a cell without it is not done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mebert.errors import UserError
from mebert.storage.atomic import write_text
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.evaluation_file import read_evaluation
from mebert.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Done:
    """A finished run: its folder, with evaluation.json, and its seconds (since it was last resumed)."""

    run: Path
    seconds: float

    def evaluation(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        return read_evaluation(RunFolder(self.run).evaluation)


@dataclass(frozen=True)
class Cell:
    """One cell, with the configuration of its run as `fit` takes it."""

    recipe: str
    task: str
    seed: int
    folder: Path
    config: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.task} {self.recipe} seed {self.seed}"

    @property
    def only(self) -> str:
        """The value of `--only` that selects this cell alone."""
        return f"recipe={self.recipe},task={self.task},seed={self.seed}"

    @property
    def config_file(self) -> Path:
        return self.folder / "cell.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def done(self) -> Done | None:
        """The finished run, or None."""
        try:
            marker = json.loads((self.folder / "done.json").read_text(encoding="utf-8"))
            found = Done(self.folder / Path(marker["run"]).name, float(marker["seconds"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None
        return found if RunFolder(found.run).evaluation.is_file() else None

    def finish(self, seconds: float, keep: str) -> Done:
        """Mark the cell as done and remove what is not to be kept; a UserError if it has left no evaluation.json."""
        evaluated = [run for run in self.runs() if RunFolder(run).evaluation.is_file()]
        if not evaluated:
            raise UserError(f"{self.folder} has no evaluation.json: is test_after_fit off, or the data without test?")
        marker = {"run": evaluated[-1].name, "seconds": round(seconds, 1)}
        write_text(json.dumps(marker) + "\n", self.folder / "done.json")
        unwanted = {"results": ("checkpoints", "model"), "models": ("checkpoints",), "all": ()}[keep]
        for run in self.runs():
            for name in unwanted:
                shutil.rmtree(run / name, ignore_errors=True)
        return Done(evaluated[-1], seconds)

    def prepare(self) -> Path | None:
        """Write the configuration, remove runs of other settings; returns the checkpoint to resume from, if any."""
        if self.changed() is not None:
            for run in self.runs():
                shutil.rmtree(run)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(yaml.safe_dump(self.config, sort_keys=False), self.config_file)
        places = [RunFolder(run).checkpoint(name) for run in self.runs() for name in ("last-previous", "last")]
        return next((path for path in reversed(places) if path.is_file() and _readable(path)), None)

    def changed(self) -> tuple[str, Any, Any] | None:
        """A setting in the folder that differs from the cell's: (dotted key, old value, new value)."""
        try:
            before = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, yaml.YAMLError, ValueError, RecursionError):
            return None
        return next(_differences(before, self.config), None)

    def last_lines(self) -> str:
        """The last three lines of the log, indented."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        lines = [f"    {line.rstrip()}" for line in text.splitlines() if line.strip()]
        return "\n".join(lines[-3:])

    def runs(self) -> list[Path]:
        """The run folders, oldest first."""
        return sorted(self.folder.glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))


def refuse_changed(cells: Sequence[Cell]) -> None:
    """Raise a UserError if finished cells were run with other settings."""
    changed = [(cell, change) for cell in cells if cell.done() is not None and (change := cell.changed())]
    if changed:
        first, (key, old, new) = changed[0]
        raise UserError(
            f"{len(changed)} of the study's runs were done with other settings (first: {first.name}, {key}: "
            f"{old!r}, now {new!r}); give the study another name, or delete their folders, such as {first.folder}"
        )


def _differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """As `changed`, wherever two configurations differ, but for the folder that they write to."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*now, *before]):
            if f"{key}{name}" != "trainer.default_root_dir":
                yield from _differences(before.get(name), now.get(name), f"{key}{name}.")
    elif before != now:
        yield key.rstrip("."), before, now


def _readable(checkpoint: Path) -> bool:
    try:
        read_checkpoint(checkpoint)
    except UserError:  # the run was stopped while it was writing
        return False
    return True
