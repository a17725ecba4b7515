"""The part of docs/results_small.md on GEEP, FastBERT and joint training, and its plot."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geep as bench
from page import difference, fill, percent, table, write_part

Run = dict[str, Any]
NAMES = {"ag_news": "AG's News", "sst2": "SST-2", "imdb": "IMDB", "chnsenticorp": "ChnSentiCorp"}
LABELS = {
    "joint": "joint",
    "geep": "GEEP",
    "fastbert": "FastBERT",
}
LAYERS = 6
PREDICTORS = ("token", "token 2-gram", "linear")
PAIRS = [
    ("geep", "joint"),
    ("fastbert", "joint"),
    ("geep", "fastbert"),
]
SPLITS = {
    "ag_news": "the test split",
    "sst2": "the GLUE validation split",
    "imdb": "the test split",
    "chnsenticorp": "the test split",
}


class Comparison:
    """All runs, by task, recipe and seed."""

    def __init__(self, results: dict[tuple[str, str, int], Run]) -> None:
        self.results = results
        self.tasks = [t for t in bench.TASKS if any(key[0] == t for key in results)]
        self.recipes = [r for r in bench.RECIPES if any(key[1] == r for key in results)]

    def group(self, task: str, recipe: str) -> dict[int, Run]:
        """Seed to run."""
        return {s: run for (t, r, s), run in self.results.items() if (t, r) == (task, recipe)}

    def paired(self, value: Callable[[Run], float], a: str, b: str, tasks: list[str] | None = None) -> list[float]:
        """Differences a - b of one figure by task and seed."""
        found = []
        for task in tasks or self.tasks:
            left, right = self.group(task, a), self.group(task, b)
            found += [value(left[s]) - value(right[s]) for s in sorted(left.keys() & right.keys())]
        return found

    def exits_table(self) -> str:
        """Accuracy after every layer that has an exit."""
        rows = []
        for task in self.tasks:
            for recipe in self.recipes:
                runs = list(self.group(task, recipe).values())
                if not runs:
                    continue
                cells = [""] * LAYERS
                for place, layer in enumerate(runs[0]["exit_layers"]):
                    cells[layer - 1] = percent([run["exits"][place] for run in runs])
                rows.append([NAMES[task], LABELS[recipe], *cells])
        return table(["task", "recipe", *(f"layer {n}" for n in range(1, LAYERS + 1))], rows)

    def speed_table(self) -> str:
        """Accuracy at equal speed-ups by layers, area and training time."""
        rows = []
        for task in self.tasks:
            for recipe in self.recipes:
                runs = list(self.group(task, recipe).values())
                if not runs:
                    continue
                at = [[r["at"][str(t)] for r in runs if r["at"][str(t)] is not None] for t in bench.TARGETS]
                cells = [percent(values) if values else "-" for values in at]
                seconds = statistics.median(run["train_seconds"] for run in runs)
                rows.append(
                    [NAMES[task], LABELS[recipe], *cells, percent([r["area"] for r in runs]), f"{seconds:.0f} s"]
                )
        return table(["task", "recipe", *(f"{t:g}x" for t in bench.TARGETS), "area", "training"], rows)

    def prediction_table(self) -> str:
        """GEEP: accuracy of the policy, of predicted exits and of a fixed exit at the same speed."""
        rows = []
        for task in self.tasks:
            runs = list(self.group(task, "geep").values())
            for target in bench.PREDICTED_AT:
                found = [
                    {k: v for k, v in r.get("prediction", {}).items() if k.startswith(f"{target:g}x ")} for r in runs
                ]
                found = [f for f in found if f]
                if not found:
                    continue
                policy = percent([next(iter(f.values()))["metric_taken"] for f in found])
                fixed = percent([r["exits"][r["exit_layers"].index(round(LAYERS / target))] for r in runs])
                cells = []
                for name in PREDICTORS:
                    parts = [f[f"{target:g}x {name}"] for f in found if f"{target:g}x {name}" in f]
                    exact = statistics.mean(100 * p["exact"] for p in parts)
                    cells.append(f"{percent([p['metric_predicted'] for p in parts])} ({exact:.0f} % exact)")
                commonest = statistics.mean(100 * next(iter(f.values()))["most_frequent"] for f in found)
                rows.append([NAMES[task], f"{target:g}x", policy, *cells, fixed, f"{commonest:.0f} %"])
        header = ["task", "speed-up", "entropy", *PREDICTORS, "fixed exit", "commonest exit"]
        return table(header, rows)

    def differences(self, pairs: list[tuple[str, str]]) -> str:
        """Paired differences over all tasks and seeds."""
        rows = [
            [f"{LABELS[a]} - {LABELS[b]}", *(difference(self.paired(value, a, b)) for value in FIGURES.values())]
            for a, b in pairs
            if self.paired(last, a, b)
        ]
        return table(["", *FIGURES], rows)


def at_speed(target: float) -> Callable[[Run], float]:
    """Accuracy where entropy's threshold gives this speed-up by layers."""

    def value(run: Run) -> float:
        found: float | None = run["at"][str(target)]
        return float("nan") if found is None else found

    return value


def last(run: Run) -> float:
    """The last exit."""
    value: float = run["exits"][-1]
    return value


def first(run: Run) -> float:
    """The mean of the exits after layers 1 to 3, which every recipe has."""
    values: list[float] = run["exits"][:3]
    return statistics.mean(values)


def area(run: Run) -> float:
    """The area under the accuracy-speed curve."""
    value: float = run["area"]
    return value


FIGURES: dict[str, Callable[[Run], float]] = {
    "layers 1-3": first,
    "last layer": last,
    "at 2x": at_speed(2.0),
    "at 3x": at_speed(3.0),
    "area": area,
}


def plot(comparison: Comparison, path: Path) -> None:
    """Accuracy against speed-up, one panel a task."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    grid = np.linspace(1.0, 5.0, 81)
    figure, axes = plt.subplots(2, 2, figsize=(10, 8))
    styles = {
        "joint": "tab:gray",
        "geep": "tab:blue",
        "fastbert": "tab:orange",
    }
    panels = list(axes.flat)
    for axis in panels[len(comparison.tasks) :]:
        axis.axis("off")
    for axis, task in zip(panels, comparison.tasks, strict=False):
        for recipe in comparison.recipes:
            lines = []
            for run in comparison.group(task, recipe).values():
                speed, metric = zip(*sorted(run["curve"]), strict=True)
                lines.append(100 * np.interp(grid, speed, metric))
            if lines:
                colour = styles[recipe]
                axis.plot(grid, np.mean(lines, axis=0), color=colour, label=LABELS[recipe])
                axis.fill_between(grid, np.min(lines, axis=0), np.max(lines, axis=0), color=colour, alpha=0.1, lw=0)
        axis.set_title(NAMES[task])
        axis.set_xlabel("speed-up by layers (entropy)")
        axis.set_ylabel("accuracy, %")
        axis.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=3, frameon=False)
    figure.suptitle("GEEP, FastBERT and joint training, 6 layers; mean of the seeds, band from lowest to highest seed")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write_report(docs: Path) -> None:
    """Write the part of docs/results_small.md and docs/results_geep.png."""
    results = bench.load()
    if not results:
        raise SystemExit(f"no results in {bench.RESULTS}; run: python benchmarks/geep.py run")
    comparison = Comparison(results)
    runs = list(results.values())
    some = {task: next(iter(comparison.group(task, "joint").values())) for task in comparison.tasks}
    missing = [
        f"{NAMES[t]} {LABELS[r]} seed {s}"
        for t in bench.TASKS
        for r in bench.RECIPES
        for s in bench.SEEDS
        if (t, r, s) not in results
    ]
    values = {
        "seeds": ", ".join(map(str, sorted({run["seed"] for run in runs}))),
        "runs": str(len(runs)),
        "missing": f"Not run: {'; '.join(missing)}." if missing else "Every cell has all seeds.",
        "threads": ", ".join(sorted({str(run["threads"]) for run in runs})),
        "precision": ", ".join(sorted({run["precision"] for run in runs})),
        "rows": "; ".join(f"{NAMES[t]} {run['train_rows']:,} rows, {run['epochs']} epochs" for t, run in some.items()),
        "splits": "\n".join(
            f"- {NAMES[t]}: {run['rows']:,} rows of {SPLITS[t]}, {run['tokens']:.0f} tokens on average "
            f"(at most {bench.DATA[t]['max_length']})"
            for t, run in some.items()
        ),
        "exits_table": comparison.exits_table(),
        "speed_table": comparison.speed_table(),
        "prediction_table": comparison.prediction_table(),
        "differences": comparison.differences(PAIRS),
    }
    plot(comparison, docs / "results_geep.png")
    write_part(docs / "results_small.md", "geep", fill(Path(__file__).parent / "geep_report.md", values))
    print(f"wrote its part of {docs / 'results_small.md'}, and {docs / 'results_geep.png'}")


if __name__ == "__main__":
    write_report(bench.ROOT / "docs")
