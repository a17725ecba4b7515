"""`python -m mebert study`: which recipe is best on which task, over several seeds?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mebert.errors import UserError


def study(
    name: str | None = None,
    # Plain `dict`: of what is in a `dict[str, Any]` jsonargparse would make objects wherever it finds a class_path.
    base: dict | None = None,  # type: ignore[type-arg]
    tasks: dict | None = None,  # type: ignore[type-arg]
    recipes: dict | None = None,  # type: ignore[type-arg]
    grid: dict | None = None,  # type: ignore[type-arg]
    run: Path | None = None,
    seeds: list[int] = [1],  # noqa: B006  (jsonargparse copies it)
    targets: list[float] = [1.0, 1.5, 2.0, 3.0],  # noqa: B006
    out: Path | None = None,
    keep: Literal["results", "models", "all"] = "models",
    only: list[str] | None = None,
    jobs: int = 1,
    threads: int | None = None,
    ray: str | None = None,
    ray_gpus: float = 0.0,
    list: bool = False,
    report_only: bool = False,
) -> int:
    """Train and test every recipe on every task with every seed, and compare them in one report.

    Each run is `python -m mebert fit` in a process of its own, with settings merged from `base`, the task's, the
    recipe's, and the recipe's for this task (later ones win). Finished runs are skipped, stopped ones resume from their
    last checkpoint, and failed ones are reported and left out; run the same command again to go on. One `study` at a
    time owns a study's folder; `ray` runs it on several machines.

    Args:
        name: Name of the study.
        base: Settings of all runs: model, data, trainer and the other sections of a configuration of `fit`; in model
            and data, keys beside class_path and init_args count as arguments.
        tasks: Name to settings, as in base.
        recipes: Name to settings, as in base; under `tasks`, by name, what differs on a task.
        grid: Dotted setting to a list of its values (model.learning_rate: [5.0e-5, 1.0e-4]); every combination of them
            makes one recipe of each recipe. The report has the best by val/auc.
        run: Folder of a finished run: its config.yaml is the base, tasks and recipes may be left out, and the name is
            that of its experiment with _search.
        seeds: One run each: of heads and dropout; the rows are the same for all.
        targets: Speed-ups by layers that the report compares at.
        out: Folder; null for runs/studies/<name>.
        keep: What is kept of a run: its results, its model too, or all, best.ckpt too.
        only: Run these alone: recipe=joint,deebert task=rte seed=1 (any of them).
        jobs: Number of runs at a time.
        threads: Threads of each run; null for OMP_NUM_THREADS, or without it for this machine's cores / jobs.
        ray: Run as tasks of a Ray cluster (auto, local, host:port, ray://host:port), as many at a time as fit; each
            takes `threads` CPUs. All machines need mebert and this working directory.
        ray_gpus: GPUs of each run on Ray.
        list: Print one command for every run that is not done, for a cluster's launcher or `xargs`, and stop.
        report_only: Write the report about the finished runs, and run nothing.

    Returns:
        The exit status: 1 if a run failed.
    """
    from mebert.commands.study.run import Runs, study_command
    from mebert.commands.study.search import base_of_run
    from mebert.commands.study.settings import Study

    if run is not None:
        if base is not None:
            raise UserError(f"run ({run}) and base were both given; give one of them")
        experiment, base = base_of_run(run)
        name, tasks, recipes = name or f"{experiment}_search", tasks or {"own": {}}, recipes or {"run": {}}
    parts = {"base": base, "tasks": tasks, "recipes": recipes, "grid": grid}
    checked = Study.checked(name, out, seeds, targets, keep, **parts)
    return study_command(checked, only, Runs(jobs, threads, ray, ray_gpus), list, report_only)
