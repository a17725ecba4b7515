"""The part of docs/results_small.md on curriculum learning and distillation, and its plot."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import curriculum as bench
from page import difference, fill, table, write_part

Run = dict[str, Any]
Results = dict[tuple[str, str, str | None, int], Run]
NAMES = {
    "rte": "RTE", "snli": "SNLI", "mrpc": "MRPC", "wikiqa": "WikiQA", "scitail": "SciTail", "qnli": "QNLI",
}  # fmt: skip
METRICS = {"acc": "accuracy", "map": "MAP", "mrr": "MRR"}
KINDS = ("joint", "vanilla", "layerwise", "both")
SPLITS = {
    "rte": "the GLUE validation split (choices: rows held out of training)",
    "snli": "the test split (choices: the validation split)",
    "mrpc": "the test split (choices: the validation split)",
    "wikiqa": "the test split (choices: the validation split), whole questions",
    "scitail": "the validation split (choices: rows held out of training, which are the published test rows)",
    "qnli": "the GLUE validation split (choices: rows held out of training)",
}


def early(run: Run, metric: str, split: str = "test") -> float:
    """The mean over the exits before the last."""
    values: list[float] = run["splits"][split]["exits"][metric][:-1]
    return statistics.mean(values)


def last(run: Run, metric: str) -> float:
    """The last exit."""
    value: float = run["splits"]["test"]["exits"][metric][-1]
    return value


def shallow(run: Run, metric: str) -> float:
    """The mean over exits 1 to 3."""
    values: list[float] = run["splits"]["test"]["exits"][metric][:3]
    return statistics.mean(values)


def deep(run: Run, metric: str) -> float:
    """The mean over exits 4 to 6."""
    values: list[float] = run["splits"]["test"]["exits"][metric][3:]
    return statistics.mean(values)


def area(run: Run, metric: str) -> float:
    """The area under the accuracy-speed curve (of the main metric)."""
    value: float = run["splits"]["test"]["area"]
    return value


def at_speed(target: float) -> Callable[[Run, str], float]:
    """The main metric where entropy's threshold gives this speed-up by layers."""

    def value(run: Run, metric: str) -> float:
        found: float | None = run["splits"]["test"]["at"][str(target)]
        return float("nan") if found is None else found

    return value


class Comparison:
    """The runs of the comparison: a training of each kind, with and without the curriculum."""

    def __init__(self, results: Results, chosen: dict[str, str]) -> None:
        self.results = results
        self.chosen = chosen
        self.trainings = {kind: chosen.get(kind, "joint") for kind in KINDS}
        self.tasks = tuple(task for task in bench.TASKS if self.group(task, "joint", None))
        self.curricula: tuple[str | None, ...] = (None, chosen["curriculum"])

    def group(self, task: str, kind: str, curriculum: str | None) -> dict[int, Run]:
        """Seed to run."""
        training = self.trainings[kind]
        return {s: r for (t, k, c, s), r in self.results.items() if (t, k, c) == (task, training, curriculum)}

    def main_metric(self, task: str) -> str:
        """The task's first metric."""
        return str(next(iter(self.group(task, "joint", None).values()))["metrics"][0])

    def paired(
        self,
        value: Callable[[Run, str], float],
        a: tuple[str, str | None],
        b: tuple[str, str | None],
        tasks: tuple[str, ...] = (),
    ) -> list[float]:
        """Differences a - b of one figure, by task and seed; without `tasks` of all."""
        found = []
        for task in tasks or self.tasks:
            left, right = self.group(task, *a), self.group(task, *b)
            metric = self.main_metric(task)
            found += [value(left[s], metric) - value(right[s], metric) for s in sorted(left.keys() & right.keys())]
        return found

    def against_joint(self) -> str:
        """Every training against joint training without a curriculum, paired by seed."""
        rows = []
        for curriculum in self.curricula:
            for kind in KINDS:
                if (kind, curriculum) == ("joint", None):
                    continue
                ours, base = (kind, curriculum), ("joint", None)
                by_task = [difference(self.paired(early, ours, base, (task,))) for task in self.tasks]
                every = [difference(self.paired(value, ours, base)) for value in (early, last, area)]
                rows.append([kind, "yes" if curriculum else "no", *by_task, *every])
        tasks = [f"{NAMES[task]}, 1-5" for task in self.tasks]
        return table(["distillation", "curriculum", *tasks, "all, 1-5", "all, last exit", "all, area"], rows)

    def at_equal_speed(self) -> str:
        """Every training against joint training without a curriculum at speed-ups by layers."""
        rows = []
        for curriculum in self.curricula:
            for kind in KINDS:
                if (kind, curriculum) == ("joint", None):
                    continue
                cells = []
                for tasks in (*((task,) for task in self.tasks), self.tasks):
                    for target in (2.0, 3.0):
                        pairs = self.paired(at_speed(target), (kind, curriculum), ("joint", None), tasks)
                        cells.append(f"{100 * statistics.mean(pairs):+.1f}" if pairs else "-")
                rows.append([kind, "yes" if curriculum else "no", *cells])
        names = [*(NAMES[task] for task in self.tasks), "all"]
        return table(["distillation", "curriculum", *(f"{n}, {x}x" for n in names for x in (2, 3))], rows)

    def halves(self) -> str:
        """Distillation without a curriculum against joint training: exits 1 to 3 and exits 4 to 6."""
        rows = []
        for kind in KINDS[1:]:
            cells = []
            for tasks in (*((task,) for task in self.tasks), self.tasks):
                for value in (shallow, deep):
                    pairs = self.paired(value, (kind, None), ("joint", None), tasks)
                    cells.append(f"{100 * statistics.mean(pairs):+.1f}" if pairs else "-")
            rows.append([kind, *cells])
        names = [*(NAMES[task] for task in self.tasks), "all"]
        return table(["distillation", *(f"{n}, {part}" for n in names for part in ("1-3", "4-6"))], rows)


def tune_tables(results: Results) -> tuple[str, str]:
    """Gains on validation data that the choices were made by."""

    def cells(training: str, curriculum: str | None) -> list[str]:
        found = bench.gains(results, training, curriculum, list(bench.TUNED_ON), bench.SEEDS[0])
        mean = f"{100 * statistics.mean(found.values()):+.1f}" if found else "-"
        return [*(f"{100 * found[t]:+.1f}" if t in found else "-" for t in bench.TUNED_ON), mean]

    header = [*(NAMES[t] for t in bench.TUNED_ON), "mean"]
    distillation = []
    for name, settings in bench.DISTILLATION.items():
        kinds = ("vanilla",) if name in bench.ONLY_VANILLA else ("vanilla", "layerwise")
        distillation += [[_words(settings), kind, *cells(f"{kind}-{name}", None)] for kind in kinds]
    curricula = []
    for name, parts in bench.CURRICULA.items():
        pacing = "all, sorted"
        if parts["pacing"] is not None:
            pacing = f"{parts['pacing'][0]}, until {parts['pacing'][1]['until']}"
        order = parts.get("direction", "easy_first").replace("_", " ")
        ranked = "within classes" if parts.get("within_class", True) else "all together"
        curricula.append([parts["difficulty"], pacing, f"{order}, {ranked}", *cells("joint", name)])
    return (
        table(["settings", "kind", *header], distillation),
        table(["difficulty", "pacing", "order", *header], curricula),
    )


def _missing(comparison: Comparison) -> str:
    """In words, which cells have fewer seeds than the others."""
    found: dict[tuple[str, str], list[str]] = {}
    for task in comparison.tasks:
        for curriculum in comparison.curricula:
            for kind in KINDS:
                seeds = sorted(comparison.group(task, kind, curriculum))
                if len(seeds) < len(bench.FEWER_SEEDS.get(task, bench.SEEDS)):
                    name = f"{NAMES[task]} {'with' if curriculum else 'without'} the curriculum"
                    found.setdefault((name, ", ".join(map(str, seeds)) or "none"), []).append(kind)
    if not found:
        return "Every cell has all seeds."
    parts = [f"{name} ({', '.join(kinds)}): seed {seeds}" for (name, seeds), kinds in found.items()]
    return "Not all seeds have been run yet: " + "; ".join(parts) + "."


def _words(settings: dict[str, Any]) -> str:
    """Settings of the distillation as `name value`."""
    return ", ".join(f"`{key}` {value}" for key, value in settings.items() if key != "distillation")


def plot(comparison: Comparison, path: Path) -> None:
    """Metric against speed-up, one panel a task: trainings without the curriculum as lines, joint with it dashed."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    grid = np.linspace(1.0, 4.0, 61)
    figure, axes = plt.subplots(2, -(-len(comparison.tasks) // 2), figsize=(5 * -(-len(comparison.tasks) // 2), 8))
    styles = {"joint": "tab:gray", "vanilla": "tab:orange", "layerwise": "tab:blue", "both": "tab:green"}
    for axis, task in zip(axes.flat, comparison.tasks, strict=True):
        for curriculum in comparison.curricula:
            for kind, colour in styles.items():
                lines = []
                for run in comparison.group(task, kind, curriculum).values():
                    speed, metric = zip(*sorted(run["splits"]["test"]["curve"]), strict=True)
                    lines.append(100 * np.interp(grid, speed, metric))
                if not lines:
                    continue
                label = kind + (", curriculum" if curriculum else "")
                axis.plot(grid, np.mean(lines, axis=0), "--" if curriculum else "-", color=colour, label=label, lw=1.5)
                if not curriculum:
                    axis.fill_between(grid, np.min(lines, 0), np.max(lines, 0), color=colour, alpha=0.1, lw=0)
        axis.set_title(NAMES[task])
        axis.set_xlabel("speed-up by layers (entropy)")
        axis.set_ylabel(f"{METRICS[comparison.main_metric(task)]}, %")
        axis.grid(alpha=0.3)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=4, frameon=False)
    figure.suptitle("all-MiniLM-L6-v2; mean of the seeds (bands: lowest to highest seed, without curriculum)")
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write_report(docs: Path) -> None:
    """Write the part of docs/results_small.md and docs/results_curriculum.png."""
    results = bench.load()
    if not results:
        raise SystemExit(f"no results in {bench.RESULTS}; run: python benchmarks/curriculum.py tune, then run")
    comparison = Comparison(results, bench.choose(results))
    groups = [comparison.group(t, k, c) for c in comparison.curricula for k in KINDS for t in comparison.tasks]
    runs = [run for group in groups for run in group.values()]
    first = {task: next(iter(comparison.group(task, "joint", None).values())) for task in comparison.tasks}
    distillation, curricula = tune_tables(results)
    settings = {kind: bench.trainings()[comparison.trainings[kind]] for kind in KINDS}
    pacing = bench.CURRICULA[comparison.chosen["curriculum"]]
    values = {
        "seeds": ", ".join(map(str, sorted({r["seed"] for r in runs})))
        + "".join(f"; {NAMES[task]}: {', '.join(map(str, own))}" for task, own in bench.FEWER_SEEDS.items()),
        "runs": str(len(runs)),
        "missing": _missing(comparison),
        "threads": ", ".join(sorted({str(r["threads"]) for r in runs})),
        "precision": ", ".join(sorted({r["precision"] for r in runs})),
        "epochs": str(bench.EPOCHS),
        "rows": "; ".join(f"{NAMES[t]} {run['train_rows']:,}" for t, run in first.items()),
        "splits": "\n".join(
            f"- {NAMES[t]}: {r['splits']['test']['rows']:,} rows of {SPLITS[t]}" for t, r in first.items()
        ),
        "settings": "; ".join(f"{kind}: {_words(s)}" for kind, s in settings.items() if kind != "joint"),
        "curriculum": f"{pacing['difficulty']} with {pacing['pacing'][0] if pacing['pacing'] else 'sorted epochs'}",
        "tune_distillation": distillation,
        "tune_curricula": curricula,
        "tuned_on": " and ".join(NAMES[t] for t in bench.TUNED_ON),
        "against_joint": comparison.against_joint(),
        "halves": comparison.halves(),
        "at_equal_speed": comparison.at_equal_speed(),
        "snli_2x": difference(comparison.paired(at_speed(2.0), ("vanilla", None), ("joint", None), ("snli",))),
    }
    chosen = comparison.chosen["curriculum"]
    for name, a, b in (
        ("layerwise_vanilla", ("layerwise", None), ("vanilla", None)),
        ("both_vanilla", ("both", None), ("vanilla", None)),
    ):
        values |= {f"{name}_{n}": difference(comparison.paired(v, a, b)) for n, v in FIGURES.items()}
    for n, value in FIGURES.items():
        pairs = [d for kind in KINDS for d in comparison.paired(value, (kind, chosen), (kind, None))]
        values[f"curriculum_{n}"] = difference(pairs)
    plot(comparison, docs / "results_curriculum.png")
    text = fill(Path(__file__).parent / "curriculum_report.md", values)
    write_part(docs / "results_small.md", "curriculum", text)
    print(f"wrote its part of {docs / 'results_small.md'}, and {docs / 'results_curriculum.png'}")


FIGURES = {"early": early, "last": last, "area": area}


if __name__ == "__main__":
    write_report(bench.ROOT / "docs")
