"""Twelve layers: the tables, the picture and the sentences on configs/study/twelve_layers.yaml's results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from page import table
from panels import panels, save_with_legend
from recipe_headline import interval_words, points
from recipe_paired import LAST, OWN_RULE, RECOMMENDED, Result, against, at_speed

TASKS = {"snli": "SNLI", "sst2": "SST-2", "mrpc": "MRPC", "rte": "RTE"}
ARMS = {
    "single": ("all 12 layers, one exit", "#000000"),
    RECOMMENDED: ("recommended", "#d62728"),
    "joint": ("joint training", "#888888"),
    "de3": ("DE3-BERT", "#1f77b4"),
    "geep": ("GEEP", "#9467bd"),
    "curriculum": ("curriculum, layer by layer", "#2ca02c"),
}
EVERYWHERE = (RECOMMENDED, "joint", "de3")  # the others have run on SNLI and SST-2 alone
SPEEDS = (1.5, 2.0, 3.0, 4.0, 6.0)


def of(results: Sequence[Result], task: str, arm: str) -> Result | None:
    """The cell of a task and an arm; None if it has not been run."""
    return next((r for r in results if (r["task"], r["arm"]) == (task, arm)), None)


def tables(results: Sequence[Result]) -> str:
    """A table for each task: a row an arm, a column a speed-up."""
    parts = []
    for task, name in TASKS.items():
        rows = []
        for arm, (meaning, _) in ARMS.items():
            found = of(results, task, arm)
            if found is not None:
                at = [points(at_speed(found, speed)) if found["rules"] else "-" for speed in SPEEDS]
                rows.append([meaning, points(found["exits"][-1]), *at])
        if rows:
            some = next(r for r in results if r["task"] == task)
            about = f"{name}: {some['train_rows']:,} training, {some['test_rows']:,} test rows."
            parts.append(f"{about}\n\n{table(['training', '1x', *(f'{s:g}x' for s in SPEEDS)], rows)}")
    return "\n\n".join(parts)


def paired_table(results: Sequence[Result]) -> str:
    """The recommended recipe against every other training, on the tasks that both have: mean, interval, each task."""
    rows = []
    for arm in (arm for arm in ARMS if arm not in (RECOMMENDED, "single")):
        cells = [(of(results, task, RECOMMENDED), of(results, task, arm)) for task in TASKS]
        pairs = [(own, theirs) for own, theirs in cells if own is not None and theirs is not None]
        for speed in (1.0, 2.0, 3.0, 4.0, 6.0) if pairs else ():
            one = against(pairs, speed, (LAST, LAST) if speed == 1 else (OWN_RULE, OWN_RULE))
            known = {task: difference for (task, _), difference in one.differences.items()}
            by_task = [f"{100 * known[task]:+.1f}" if task in known else "" for task in TASKS]
            rows.append([ARMS[arm][0], f"{speed:g}x", interval_words(one), *by_task])
    header = ["recommended against", "speed", "mean over tasks (95 %)", *TASKS.values()]
    return table(header, rows) if rows else "No cell has been run yet."


def values(results: Sequence[Result]) -> dict[str, str]:
    """What the page says of them."""
    about = sorted({(result["precision"], result["device"], result["seed"]) for result in results})
    words = "; ".join(f"{precision}, {device}, seed {seed}" for precision, device, seed in about)
    return {
        "twelve_tables": tables(results) or "No cell has been run yet.",
        "twelve_paired": paired_table(results),
        "twelve_about": words or "not run yet",
    }


def picture(results: Sequence[Result], path: Path) -> None:
    """Accuracy against speed-up, a panel a task."""
    tasks = [task for task in TASKS if any(result["task"] == task for result in results)] or ["snli"]
    figure, axes = panels(len(tasks))
    for axis, task in zip(axes, tasks, strict=True):
        for arm, (name, colour) in ARMS.items():
            found = of(results, task, arm)
            if found is None:
                continue
            if not found["rules"]:
                axis.axhline(100 * found["exits"][-1], color=colour, linestyle=":", linewidth=1, label=name)
                continue
            y = [100 * value for value in (found["exits"][-1], *(at_speed(found, speed) for speed in SPEEDS))]
            axis.plot((1.0, *SPEEDS), y, "o-", color=colour, label=name, markersize=4)
            error = [(share * (100 - share) / found["test_rows"]) ** 0.5 for share in y]
            bounds = [[share + sign * one for share, one in zip(y, error, strict=True)] for sign in (-1, 1)]
            axis.fill_between((1.0, *SPEEDS), *bounds, color=colour, alpha=0.12, linewidth=0)
        axis.set_title(TASKS[task], fontsize=10)
        axis.set_xlabel("speed-up by layers", fontsize=9)
        axis.grid(alpha=0.3)
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel("accuracy, %", fontsize=9)
    save_with_legend(figure, path)
