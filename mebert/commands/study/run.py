"""What `python -m mebert study` does with a checked study."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from mebert.commands.study.cell import CellFolder, refuse_changed, write_atomically
from mebert.commands.study.check import check_settings
from mebert.commands.study.grid import cells_of, select
from mebert.commands.study.pool import available_cores, run_cells
from mebert.commands.study.settings import Study
from mebert.errors import UserError
from mebert.storage.paths import check_output

__all__ = ["study_command"]


def study_command(
    study: Study, only: Iterable[str] | None, jobs: int, threads: int | None, list_only: bool, report_only: bool
) -> int:
    """List, run or report the cells of a study; the exit status.

    Args:
        study: The study.
        only: As `select`.
        jobs: Runs at a time.
        threads: Threads of each; None shares the machine's cores.
        list_only: Print the commands alone.
        report_only: Write the report alone.

    Raises:
        UserError: An argument is wrong, the settings of a run are, or finished runs had others.
    """
    if jobs < 1 or (threads is not None and threads < 1):
        raise UserError(f"jobs and threads must be at least 1, got {jobs} and {threads}")
    if list_only and report_only:
        raise UserError("list and report_only exclude each other: give one of them")
    every = cells_of(study)
    cells = select(every, only)
    refuse_changed(every if report_only else cells)
    if not list_only and not report_only:  # before the study has a folder
        check_output("out", study.out, folder=True)
        check_settings([cell for cell in cells if CellFolder(cell).done() is None])
    again = f"python -m mebert study --config {shlex.quote(str(_save(study)))}"
    if list_only:
        for cell in cells:
            if CellFolder(cell).done() is None:
                print(f"{again} --only {cell.only}")
        return 0
    if report_only:
        return _report(study, again)
    threads = threads or max(1, available_cores() // jobs)
    print(
        f"study {study.name}: {len(cells)} runs, {jobs} at a time, {threads} thread(s) each, in {study.out}", flush=True
    )
    try:
        outcome = run_cells(cells, jobs, threads, study.keep)
    except KeyboardInterrupt:
        print(f"\nstopped; this goes on from the last checkpoints: {again}")
        return 130
    if outcome.failed:
        print(f"{len(outcome.failed)} of {len(cells)} runs failed; to try them again: {again}")
    unfinished = sum(CellFolder(cell).done() is None for cell in every)
    if outcome.done and (only is None or not unfinished):
        refuse_changed(every)  # those that were not asked for, too
        _report(study, again)
    elif unfinished:
        print(
            f"{unfinished} of the study's {len(every)} runs are not done; a report on the others: {again} --report_only"
        )
    return 1 if outcome.failed else 0


def _report(study: Study, again: str) -> int:
    from mebert.commands.study.report import write_report

    write_report(study, again)
    return 0


def _save(study: Study) -> Path:
    """The study as one YAML in its folder, what was changed on the command line included; returns its path."""
    path = study.out / "study.yaml"
    recipes: dict[str, dict[str, Any]] = {name: dict(fragment) for name, fragment in study.recipes.items()}
    for (recipe, task), fragment in study.exceptions.items():
        recipes[recipe].setdefault("tasks", {})[task] = fragment
    content = {**dataclasses.asdict(study), "out": str(study.out), "recipes": recipes}
    content |= {"seeds": list(study.seeds), "targets": list(study.targets)}
    del content["exceptions"]
    study.out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, yaml.safe_dump(content, sort_keys=False))
    return path
