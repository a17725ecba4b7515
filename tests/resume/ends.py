"""One uninterrupted training, which those that were stopped must end like; and the command that a last word names."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from resume.recipes import settings_of
from resume.same import differences, end_of
from runs import run, write_config

from mebert.cli.main import main

__all__ = ["assert_ends_as_whole", "batches_of", "command_in", "go_on", "prepare", "pull", "stopped"]


def prepare(folder: Path, **sections: Any) -> list[str]:
    """Write the configuration; returns the arguments of `fit`."""
    settings = settings_of("MultiExitModule")
    for name, values in sections.items():
        settings[name] |= values
    return ["fit", "--config", str(write_config(folder, settings))]


def command_in(said: str) -> list[str]:
    """The arguments of the command that a line ends with."""
    (line,) = (line for line in said.splitlines() if "python -m mebert" in line and "mebert:" in line)
    return shlex.split(re.split(r"python -m mebert ", line)[-1])


def batches_of(notes: Path | str, with_rows: bool = False) -> list[list[Any]]:
    """[epoch, batch], and the rows if asked for, of every batch that a run has begun."""
    lines = map(json.loads, Path(notes).read_text(encoding="utf-8").splitlines())
    return [line[1:] if with_rows else line[1:3] for line in lines if line[0] == "batch"]


def pull(patch: pytest.MonkeyPatch, at: list[Any], number: int, times: int = 1) -> None:
    """Have the next run, whose batches go to `cut.jsonl`, get a signal at a batch."""
    given = {"PULL_AT": json.dumps(at), "PULL_WITH": int(number), "PULL_TIMES": times, "NOTES": "cut.jsonl"}
    for name, value in given.items():
        patch.setenv(name, str(value))


def stopped(*args: str) -> int:
    """The exit status of a command that a signal ends."""
    with pytest.raises(SystemExit) as ended:
        run(*args)
    return int(ended.value.code or 0)


def go_on(words: list[str], notes: str) -> list[int]:
    """Run a command to its end; returns where it began."""
    for name in ("PULL_AT", "LIMIT_AT", "SNAPSHOTS"):
        os.environ.pop(name, None)
    os.environ["NOTES"] = notes
    assert main([*words, "--trainer.enable_progress_bar", "false"]) == 0
    return batches_of(notes)[0]


def assert_ends_as_whole(experiment: str, whole: Path = Path()) -> None:
    """An experiment here ends like `runs/whole` in a folder."""
    assert differences(end_of(whole / "runs/whole"), end_of(Path("runs", experiment))) == []
