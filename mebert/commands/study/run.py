"""What `python -m mebert study` does with a checked study."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import lightning as L
import yaml
from jsonargparse import ArgumentError

from mebert.callbacks.default_callbacks import CALLBACKS
from mebert.commands.parser import UserErrorParser
from mebert.commands.study.cell import Cell, refuse_changed
from mebert.commands.study.owner import exclusive_owner
from mebert.commands.study.report import write_report
from mebert.commands.study.run_cells import follow, run_locally, run_on_ray
from mebert.commands.study.settings import SECTIONS, Study, cells_of, select
from mebert.errors import UserError
from mebert.modules import MultiExitModule
from mebert.storage.atomic import write_text
from mebert.storage.paths import check_output


@dataclasses.dataclass(frozen=True)
class Runs:
    """How cells are run; options of the command."""

    jobs: int = 1
    threads: int | None = None
    ray: str | None = None
    ray_gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.jobs < 1 or (self.threads is not None and self.threads < 1):
            raise UserError(f"jobs and threads must be at least 1, got {self.jobs} and {self.threads}")
        if self.ray_gpus < 0 or (self.ray_gpus and self.ray is None):
            raise UserError(f"ray_gpus must be at least 0, and needs --ray <address>; got {self.ray_gpus:g}")

    def each_threads(self) -> int:
        """Threads of each run."""
        given = os.environ.get("OMP_NUM_THREADS", "")
        if self.threads is not None or given.isdecimal():
            return self.threads or max(1, int(given))
        affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
        cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
        return max(1, cores // self.jobs)


def study_command(study: Study, only: Iterable[str] | None, runs: Runs, list_only: bool, report_only: bool) -> int:
    """List, run or report the cells of a study that `only` selects; returns the exit status."""
    if list_only and report_only:
        raise UserError("list and report_only exclude each other: give one of them")
    _refuse_own_file(study.out / "study.yaml")
    every = cells_of(study)
    cells = select(every, only)
    refuse_changed(every if report_only else cells)
    waiting = [cell for cell in cells if cell.done() is None]
    if report_only:
        write_report(study, _command(study))
        return 0
    if list_only:
        again = _command(study)
        print("".join(f"{again} --only {cell.only}\n" for cell in waiting), end="")
        return 0
    check_output("out", study.out, folder=True)  # before the study has a folder
    check_settings(waiting)
    # A line of --list locks its cell alone, so that a launcher may run many at a time.
    with exclusive_owner(study.out) if len(cells) > 1 else nullcontext():
        return _run(study, every, cells, waiting, runs, narrowed=only is not None)


def _run(
    study: Study, every: Sequence[Cell], cells: Sequence[Cell], waiting: Sequence[Cell], runs: Runs, narrowed: bool
) -> int:
    again, threads = _command(study), runs.each_threads()
    where = f"{runs.jobs} at a time" if runs.ray is None else f"on Ray ({runs.ray})"
    print(f"study {study.name}: {len(cells)} runs, {where}, {threads} thread(s) each, in {study.out}", flush=True)
    done = len(cells) - len(waiting)
    if done:
        print(f"{done} of {len(cells)} runs are done already", flush=True)
    given = waiting, threads, study.keep
    results = run_locally(*given, runs.jobs) if runs.ray is None else run_on_ray(*given, runs.ray, runs.ray_gpus)
    try:
        failed = follow(results, len(cells), done)
    except KeyboardInterrupt:
        print(f"\nstopped; this goes on from the last checkpoints: {again}")
        return 130
    if failed:
        print(f"{len(failed)} of {len(cells)} runs failed; to try them again: {again}")
    unfinished = sum(cell.done() is None for cell in every)
    if len(failed) < len(cells) and (not narrowed or not unfinished):
        refuse_changed(every)  # also the cells that were not selected
        write_report(study, again)
    elif unfinished:
        there = f"{unfinished} of the study's {len(every)} runs are not done"
        print(f"{there}; a report on the others: {again} --report_only")
    return 1 if failed else 0


def check_settings(cells: Sequence[Cell]) -> None:
    """Parse the sections of every recipe on every task as `fit` would; a UserError if a setting is invalid."""
    parser = UserErrorParser(exit_on_error=False)
    parser.add_subclass_arguments(MultiExitModule, "model")
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    parser.add_class_arguments(L.Trainer, "trainer")
    for section, callback in CALLBACKS.items():
        parser.add_class_arguments(callback, section, fail_untyped=False)  # as LightningCLI adds them
    for cell in {(cell.recipe, cell.task): cell for cell in cells}.values():
        try:
            parser.parse_object({part: content for part, content in cell.config.items() if part in SECTIONS})
        except (UserError, ArgumentError) as error:
            raise UserError(f"recipe {cell.recipe}, task {cell.task}: {error}") from error


def _refuse_own_file(path: Path) -> None:
    """Raise a UserError where the file that a study writes its settings to was not written by one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        content = yaml.safe_load(text)
        own = content.keys() >= {"name", "out", "keep"} and yaml.safe_dump(content, sort_keys=False) == text
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError):
        own = False
    if not own:
        raise UserError(
            f"out: {path} is a file of your own, and a study writes all of its settings there; rename it, or give "
            "another folder by --out"
        )


def _command(study: Study) -> str:
    """The command that runs the study again; saves its settings, options of the command line included."""
    content = dataclasses.asdict(study) | {"out": str(study.out), "seeds": [*study.seeds], "targets": [*study.targets]}
    for (recipe, task), fragment in content.pop("exceptions").items():
        content["recipes"][recipe].setdefault("tasks", {})[task] = fragment
    study.out.mkdir(parents=True, exist_ok=True)
    path = study.out / "study.yaml"
    write_text(yaml.safe_dump(content, sort_keys=False), path)
    return f"python -m mebert study --config {shlex.quote(str(path))}"
