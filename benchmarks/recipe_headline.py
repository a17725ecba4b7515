"""The recommended recipe against full depth, published recipes and the first layers alone: a table and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from page import table
from recipe import SPEEDS

ALL_TASKS = {"snli": "SNLI", "sst2": "SST-2", "qqp": "QQP", "ag_news": "AG's News", "imdb": "IMDB"}
RECOMMENDED, OWN_RULE = "self_heads_10", "stacked"
PUBLISHED = {"de3": "DE3-BERT", "fastbert": "FastBERT", "romebert": "RomeBERT"}
CURVES = {
    RECOMMENDED: ("recommended", "#d62728"),
    "joint": ("joint training", "#888888"),
    "de3": ("DE3-BERT", "#1f77b4"),
    "fastbert": ("FastBERT", "#2ca02c"),
}
FULL_DEPTH = ("single", "hf_trainer", "joint")
FIRST_LAYERS = {2.0: "first_3", 3.0: "first_2"}  # of 6 layers, as bounds at these speed-ups by layers
AIMS = {2.0: 0.99, 3.0: 0.965}  # of full depth
MARKS = "<!-- headline: benchmarks/recipe_report.py writes this -->", "<!-- end of headline -->"


def liked(result: dict[str, Any], speed: float) -> str:
    """The rule with the best accuracy on validation rows at a speed-up."""
    values = {name: rule["val_at"][f"{speed:g}"] for name, rule in result["rules"].items()}
    return str(max((name for name, value in values.items() if value is not None), key=lambda name: values[name]))


def points(value: float | None) -> str:
    """An accuracy in percent."""
    return "-" if value is None else f"{100 * value:.1f}"


def at_speed(result: dict[str, Any], speed: float) -> float:
    """The accuracy on test rows at a speed-up: the recommended recipe by its own rule, others by the one `liked`."""
    rule = OWN_RULE if result["arm"] == RECOMMENDED else liked(result, speed)
    return float(result["rules"][rule]["at"][f"{speed:g}"])


def complete(results: Sequence[dict[str, Any]]) -> dict[tuple[str, int], dict[str, dict[str, Any]]]:
    """Task and seed to the results by arm, of those that have what the comparison needs."""
    found: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for task in ALL_TASKS:
        for result in results:
            if result["task"] == task:
                found.setdefault((task, result["seed"]), {})[result["arm"]] = result
    needed = {RECOMMENDED, "single", "joint", "fastbert", "de3", *FIRST_LAYERS.values()}
    return {key: arms for key, arms in found.items() if needed <= arms.keys()}


def full_depth(arms: dict[str, dict[str, Any]]) -> float:
    """The best last exit of what is trained for it."""
    return float(max(arms[arm]["exits"][-1] for arm in FULL_DEPTH if arm in arms))


def headline(results: Sequence[dict[str, Any]]) -> str:
    """One row a task and seed: full depth, the recommended recipe, the best published one, the first layers alone."""
    rows = []
    for (task, _), arms in complete(results).items():
        full, row = full_depth(arms), [ALL_TASKS[task], points(full_depth(arms))]
        own = [at_speed(arms[RECOMMENDED], speed) for speed in FIRST_LAYERS]
        row += [f"{points(value)} ({100 * value / full:.1f} %)" for value in own]
        for speed in FIRST_LAYERS:
            best = max((arm for arm in PUBLISHED if arm in arms), key=lambda arm: at_speed(arms[arm], speed))
            row.append(f"{points(at_speed(arms[best], speed))} ({PUBLISHED[best]})")
        rows.append([*row, *(points(arms[bound]["exits"][-1]) for bound in FIRST_LAYERS.values())])
    if not rows:
        return "No task is complete yet."
    speeds = [f"{speed:g}x" for speed in FIRST_LAYERS]
    header = ["task", "full depth", *(f"recommended, {speed} (of full depth)" for speed in speeds)]
    header += [f"best published, {speed}" for speed in speeds]
    return table([*header, "first 3 layers alone (2x)", "first 2 layers alone (3x)"], rows)


def standard_errors(results: Sequence[dict[str, Any]]) -> str:
    """One standard error of the test rows at full depth, a task each, in words."""
    found = []
    for (task, _), arms in complete(results).items():
        right, rows = full_depth(arms), arms[RECOMMENDED]["test_rows"]
        error = 100 * (right * (1 - right) / rows) ** 0.5
        found.append(f"{ALL_TASKS[task]} {error:.1f} points ({rows:,} rows)")
    return f"One standard error of the test rows: {', '.join(found)}."


def picture(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Accuracy as a share of full depth's against the speed-up, a panel a task; bands are one standard error."""
    import matplotlib.pyplot as plt
    import numpy as np

    found = complete(results)
    figure, axes = plt.subplots(
        1, len(found), figsize=(4.6 * len(found), 3.6), layout="constrained", squeeze=False, sharey=True
    )
    for axis, ((task, _), arms) in zip(axes[0], found.items(), strict=True):
        full = full_depth(arms)
        for arm, (name, colour) in CURVES.items():
            right = np.asarray([arms[arm]["exits"][-1], *(at_speed(arms[arm], speed) for speed in SPEEDS)])
            y, error = 100 * right / full, 100 * np.sqrt(right * (1 - right) / arms[arm]["test_rows"]) / full
            axis.plot((1.0, *SPEEDS), y, "o-", color=colour, label=name, markersize=4)
            if arm == RECOMMENDED:
                axis.fill_between((1.0, *SPEEDS), y - error, y + error, color=colour, alpha=0.15, linewidth=0)
        alone = [100 * arms[bound]["exits"][-1] / full for bound in FIRST_LAYERS.values()]
        axis.plot(list(FIRST_LAYERS), alone, "kx", label="first 3, first 2 layers alone")
        axis.axhline(100, color="black", linestyle=":", linewidth=1, label="full depth")
        axis.set_title(f"{ALL_TASKS[task]} (full depth: {points(full)} %)", fontsize=10)
        axis.set_xlabel("speed-up by layers", fontsize=9)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("accuracy, % of full depth's", fontsize=9)
    axes[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


def aims(results: Sequence[dict[str, Any]]) -> str:
    """Whether the recommended recipe keeps the shares of full depth that were aimed at, on average over the tasks."""
    sentences = []
    for speed, aim in AIMS.items():
        shares = [at_speed(arms[RECOMMENDED], speed) / full_depth(arms) for arms in complete(results).values()]
        if shares:
            reached = "reached" if statistics.mean(shares) >= aim else "missed"
            sentences.append(
                f"{100 * statistics.mean(shares):.1f} % of full depth at {speed:g}x (aim {100 * aim:g} %: {reached})"
            )
    return " and ".join(sentences)
