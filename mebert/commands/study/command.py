"""`python -m mebert study`: which recipe is best on which task, over several seeds?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["study"]


def study(
    name: str | None = None,
    # Plain `dict`: of what is in a `dict[str, Any]` jsonargparse would make objects wherever it finds a class_path.
    base: dict | None = None,  # type: ignore[type-arg]
    tasks: dict | None = None,  # type: ignore[type-arg]
    recipes: dict | None = None,  # type: ignore[type-arg]
    seeds: list[int] = [1],  # noqa: B006  (jsonargparse copies it)
    targets: list[float] = [1.0, 1.5, 2.0, 3.0],  # noqa: B006
    out: Path | None = None,
    keep: Literal["results", "models", "all"] = "models",
    only: list[str] | None = None,
    jobs: int = 1,
    threads: int | None = None,
    list: bool = False,
    report_only: bool = False,
) -> int:
    """Train and test every recipe on every task with every seed, and compare them in one report.

    Each run is `python -m mebert fit` in a process of its own, with settings merged from `base`, the task's, the
    recipe's, and the recipe's for this task (the later win). A run that is done is skipped, one that was stopped goes
    on from its last checkpoint, and one that fails is told and left out: the same command again goes on. Several
    `study` commands share the work, on one machine or on many with one file system.

    Args:
        name: The study's name.
        base: What all runs have in common: model, data, trainer and the other sections of a configuration of `fit`; in
            model and data, keys beside class_path and init_args count as arguments.
        tasks: Name to settings, as in base.
        recipes: Name to settings, as in base; under `tasks`, by name, what differs on a task.
        seeds: One run each: of heads and dropout; the rows are the same for all.
        targets: Speed-ups by layers that the report compares at.
        out: Folder; null for runs/studies/<name>.
        keep: What stays of a run: its results, its model too, or all (checkpoints of three times the model's size).
        only: Run these alone: recipe=joint,deebert task=rte seed=1 (any of them).
        jobs: Runs at a time.
        threads: Threads of each run; null for this machine's cores / jobs.
        list: Print one command for every run that is not done, for a cluster's launcher or `xargs`, and stop.
        report_only: Write the report about what is done, and run nothing.

    Returns:
        The exit status: 1 if a run failed.
    """
    from mebert.commands.study.run import study_command
    from mebert.commands.study.settings import Study

    checked = Study.checked(name, out, base, tasks, recipes, seeds, targets, keep)
    return study_command(checked, only, jobs, threads, list, report_only)
