"""The part of docs/results_small.md on DE3-BERT, and docs/results_de3.png, from the results of benchmarks/minilm.py."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from page import difference, fill, percent, table, write_part

Result = dict[str, Any]
TARGETS = ("1.5", "2.0", "3.0")
NAMES = {"mrpc": "MRPC", "sst2": "SST-2", "snli": "SNLI", "mnli": "MNLI"}
SPLITS = {
    "mrpc": "the test split; lambda from the validation split",
    "sst2": "the GLUE validation split; lambda from rows held out of training",
    "snli": "the test split, drawn by the run's seed; lambda from as many rows of the validation split",
    "mnli": "the GLUE matched validation split, as the Hub in use served it; lambda from rows held out of training",
}
POLICIES = {"entropy": "entropy", "dr": "DR alone", "edr": "EDR"}


def load(folder: Path) -> dict[tuple[str, str], list[Result]]:
    """(task, variant) to its runs, one a seed."""
    found: dict[tuple[str, str], list[Result]] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault((result["task"], result["variant"]), []).append(result)
    return found


def first(run: Result) -> Result:
    """The first test split of a run."""
    split: Result = run["splits"][0]
    return split


def exits_table(runs: dict[tuple[str, str], list[Result]], tasks: list[str]) -> str:
    """Accuracy of every exit, mean-pooled and [CLS], beside the single-exit baseline."""
    rows = []
    labels = {
        "de3": "mean",
        "de3_cls": "[CLS]",
        "no_dar": "mean, no DAR",
        "single": "mean, one exit (plain fine-tuning)",
    }
    for task in tasks:
        for variant, label in labels.items():
            group = runs.get((task, variant), [])
            if not group:
                continue
            exits = [[first(run)["exits"][e] for run in group] for e in range(len(first(group[0])["exits"]))]
            cells = [""] * (6 - len(exits)) + [percent(e) for e in exits]
            rows.append([NAMES[task], label, *cells])
    return table(["task", "exits read", *(f"exit {e}" for e in range(1, 7))], rows)


def policies_table(runs: dict[tuple[str, str], list[Result]], tasks: list[str]) -> str:
    """Accuracy at equal speed-up by layers, by policy and variant, and the area under the curve."""
    rows = []
    for task in tasks:
        for variant, label in {"de3": "with DAR", "no_dar": "no DAR"}.items():
            group = runs.get((task, variant), [])
            for policy, name in POLICIES.items():
                found = [first(run)["policies"][policy] for run in group if policy in first(run)["policies"]]
                if found:
                    at = [[p["at"][t] for p in found if p["at"][t] is not None] for t in TARGETS]
                    cells = [percent(values) if values else "-" for values in at]
                    rows.append([NAMES[task], label, name, *cells, percent([p["area"] for p in found])])
        group = runs.get((task, "de3"), [])
        if group:
            speed = statistics.mean(first(run)["oracle"]["speedup_layers"] for run in group)
            best = percent([first(run)["oracle"]["metric"] for run in group])
            rows.append([NAMES[task], "with DAR", f"oracle exit: {best} at {speed:.2f}x", "", "", "", ""])
    return table(["task", "training", "policy", "1.5x", "2x", "3x", "area"], rows)


def pooling_table(runs: dict[tuple[str, str], list[Result]], tasks: list[str]) -> str:
    """[CLS] against masked mean, EDR at equal speed."""
    rows = []
    for task in tasks:
        for variant, label in {"de3": "mean", "de3_cls": "[CLS]"}.items():
            found = [first(run)["policies"]["edr"] for run in runs.get((task, variant), [])]
            if found:
                cells = [percent([p["at"][t] for p in found]) for t in TARGETS]
                rows.append([NAMES[task], label, *cells, percent([p["area"] for p in found])])
    return table(["task", "exits read", "1.5x", "2x", "3x", "area"], rows)


def dar_table(runs: dict[tuple[str, str], list[Result]], tasks: list[str]) -> str:
    """The two forms of the regulariser, and none, by EDR and DR."""
    rows = []
    for task in tasks:
        for variant, label in {"de3": "hinge", "dar_softmax": "softmax", "no_dar": "none"}.items():
            group = [first(run) for run in runs.get((task, variant), [])]
            if group:
                cells = [percent([g["policies"][p]["area"] for g in group]) for p in ("entropy", "dr", "edr")]
                lams = ", ".join(f"{run['lam']:g}" for run in runs[task, variant])
                rows.append([NAMES[task], label, str(len(group)), *cells, lams])
    return table(["task", "DAR", "seeds", "area, entropy", "area, DR", "area, EDR", "lambda chosen"], rows)


def areas_apart(
    runs: dict[tuple[str, str], list[Result]], tasks: list[str], a: tuple[str, str], b: tuple[str, str]
) -> list[float]:
    """Differences a - b of the areas of (variant, policy) over all tasks and seeds."""
    found = []
    for task in tasks:
        left = {run["seed"]: run for run in runs.get((task, a[0]), [])}
        right = {run["seed"]: run for run in runs.get((task, b[0]), [])}
        for seed in sorted(left.keys() & right.keys()):
            areas = [first(r[seed])["policies"][p]["area"] for r, p in ((left, a[1]), (right, b[1]))]
            found.append(areas[0] - areas[1])
    return found


def plot(runs: dict[tuple[str, str], list[Result]], tasks: list[str], path: Path) -> None:
    """Accuracy against speed-up, one panel a task: policies as lines with all seeds, oracle and baseline marked."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    grid = np.linspace(1.0, 4.0, 61)
    rows = -(-len(tasks) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(10, 3.9 * rows), squeeze=False)
    panels = list(axes.flat)
    for axis in panels[len(tasks) :]:
        axis.axis("off")
    styles = {
        ("de3", "entropy"): ("tab:gray", "entropy"),
        ("de3", "dr"): ("tab:orange", "DR alone"),
        ("de3", "edr"): ("tab:blue", "EDR (DE3-BERT)"),
        ("de3_cls", "edr"): ("tab:green", "EDR, [CLS] exits"),
    }
    for axis, task in zip(panels, tasks, strict=False):
        for (variant, policy), (colour, label) in styles.items():
            lines = []
            for run in runs.get((task, variant), []):
                speed, metric = zip(*sorted(first(run)["policies"][policy]["curve"]), strict=True)
                lines.append(100 * np.interp(grid, speed, metric))
            if lines:
                axis.plot(grid, np.mean(lines, axis=0), color=colour, label=label)
                axis.fill_between(grid, np.min(lines, axis=0), np.max(lines, axis=0), color=colour, alpha=0.12, lw=0)
        single = [100 * first(run)["exits"][-1] for run in runs.get((task, "single"), [])]
        if single:
            axis.axhline(statistics.mean(single), color="black", ls=":", lw=1, label="plain fine-tuning (1x)")
        axis.set_title(NAMES[task])
        oracle = [first(run)["oracle"] for run in runs[task, "de3"]]
        speed = statistics.mean(o["speedup_layers"] for o in oracle)
        if speed <= grid[-1]:
            axis.plot(speed, 100 * statistics.mean(o["metric"] for o in oracle), "k*", ms=9, label="oracle exit")
        axis.set_xlabel("speed-up by layers")
        axis.set_ylabel("accuracy, %")
        axis.grid(alpha=0.3)
    found = {label: handle for a in panels for handle, label in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="lower center", ncol=3, frameon=False)
    figure.suptitle("all-MiniLM-L6-v2, 6 exits; mean of the seeds, band from lowest to highest seed")
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write_report(results: Path, docs: Path) -> None:
    """Write the part of docs/results_small.md and docs/results_de3.png."""
    runs = load(results)
    tasks = [task for task in NAMES if (task, "de3") in runs]
    if not tasks:
        raise SystemExit(f"no results in {results}; run: python benchmarks/minilm.py run")
    docs.mkdir(exist_ok=True)
    plot(runs, tasks, docs / "results_de3.png")
    one = runs[tasks[0], "de3"][0]
    seeds = sorted({run["seed"] for group in runs.values() for run in group})
    values = {
        "seeds": ", ".join(map(str, seeds)),
        "threads": ", ".join(str(t) for t in sorted({run["threads"] for g in runs.values() for run in g})),
        "precision": one["precision"],
        "rows": "; ".join(f"{NAMES[t]} {runs[t, 'de3'][0]['train_rows']}" for t in tasks),
        "splits": "\n".join(f"- {NAMES[t]}: {first(runs[t, 'de3'][0])['rows']} rows of {SPLITS[t]}" for t in tasks),
        "exits_table": exits_table(runs, tasks),
        "policies_table": policies_table(runs, tasks),
        "pooling_table": pooling_table(runs, tasks),
        "dar_table": dar_table(runs, tasks),
        "edr_vs_entropy": difference(areas_apart(runs, tasks, ("de3", "edr"), ("de3", "entropy")), 2),
        "edr_vs_entropy_no_dar": difference(areas_apart(runs, tasks, ("de3", "edr"), ("no_dar", "entropy")), 2),
        "dr_vs_entropy": difference(areas_apart(runs, tasks, ("de3", "dr"), ("de3", "entropy")), 2),
        "dar_effect": difference(areas_apart(runs, tasks, ("de3", "edr"), ("no_dar", "edr")), 2),
        "softmax_vs_hinge": difference(areas_apart(runs, tasks, ("dar_softmax", "edr"), ("de3", "edr")), 2),
        "mean_vs_cls": difference(areas_apart(runs, tasks, ("de3", "edr"), ("de3_cls", "edr")), 2),
    }
    write_part(docs / "results_small.md", "de3", fill(Path(__file__).parent / "minilm_report.md", values))
    print(f"wrote its part of {docs / 'results_small.md'}, and {docs / 'results_de3.png'}")
