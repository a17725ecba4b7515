"""The part of docs/results_small.md on the whole family, and its plot."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import study as bench
from page import fill, table, write_part

from mebert.commands.study.report import mean_ranks

Row = dict[str, Any]
NAMES = {"rte": "RTE", "mrpc": "MRPC", "sst2": "SST-2", "snli": "SNLI", "qqp": "QQP", "wikiqa": "WikiQA"}
COLUMNS = ("1x", "1.5x", "2x", "3x", "area")
OWN, BEST = "own", "best"
LEARNT = ("sst2", "snli", "qqp")  # tasks on which the differences are larger than the noise
METRICS = {"acc": "accuracy", "map": "MAP", "f1": "F1"}


class Study:
    """The study's tables and runs."""

    def __init__(self) -> None:
        self.rows = bench.tables()
        self.runs = bench.runs()
        self.tasks = [task for task in NAMES if any(row["task"] == task for row in self.rows)]
        self.recipes = list(dict.fromkeys(row["recipe"] for row in self.rows if row["at"] == "area"))
        self.bound = list(dict.fromkeys(row["recipe"] for row in self.rows if row["recipe"] not in self.recipes))

    def figure(self, task: str, recipe: str, choice: str, at: str) -> Row | None:
        """One line of the tables, where it has a figure."""
        keys = {"task": task, "recipe": recipe, "choice": choice, "at": at}
        found = [row for row in self.rows if all(row[k] == v for k, v in keys.items())]
        return found[0] if found and found[0]["mean"] is not None else None

    def mean(self, task: str, recipe: str, choice: str, at: str) -> float | None:
        """Its mean over seeds."""
        found = self.figure(task, recipe, choice, at)
        return None if found is None else float(found["mean"])

    # ---- tables ---------------------------------------------------------------------------------------------

    def bound_table(self) -> str:
        """The first k layers alone, every task."""
        body = []
        for recipe in sorted(self.bound, key=lambda r: -self._layers(r)):
            cells = []
            for task in self.tasks:
                rows = [r for r in self.rows if (r["task"], r["recipe"], r["choice"]) == (task, recipe, OWN)]
                cells.append(_cell(next((r for r in rows if r["mean"] is not None), None)))
            layers = self._layers(recipe)
            body.append([recipe, str(layers), f"{6 / layers:.3g}x", *cells])
        return table(["recipe", "layers", "speed-up", *(NAMES[t] for t in self.tasks)], body)

    def _layers(self, recipe: str) -> int:
        return int(next(row["layers"] for row in self.rows if row["recipe"] == recipe))

    def rank_table(self, choice: str, tasks: list[str]) -> str:
        """Mean rank over tasks, for every speed-up."""
        ranks = self.ranks(choice, tasks)
        body = [[r, *(f"{ranks[r, at]:.1f}" if (r, at) in ranks else "-" for at in COLUMNS)] for r in self.recipes]
        body.sort(key=lambda row: float(row[-1]) if row[-1] != "-" else 99.0)
        return table(["recipe", *COLUMNS], body)

    def ranks(self, choice: str, tasks: list[str]) -> dict[tuple[str, str], float]:
        """(recipe, column) to the mean rank over the tasks, 1 the best, ties averaged."""
        found: dict[tuple[str, str], float] = {}
        for at in COLUMNS:
            here = [r for r in self.recipes if all(self.mean(t, r, choice, at) is not None for t in tasks)]
            tables = [{r: self.mean(t, r, choice, at) for r in here} for t in tasks]
            found |= {(recipe, at): rank for recipe, rank in mean_ranks(tables).items()}
        return found

    def policy_gains(self, tasks: list[str], without: str | None = None) -> dict[str, list[float]]:
        """Policy to its area minus entropy's, in points, run by run (the tasks' multi-exit runs, but of one recipe)."""
        gains = defaultdict(list)
        for run in self.runs:
            if run["task"] in tasks and len(run["exits"]) > 1 and run["recipe"] != without:
                base = run["policies"]["entropy"]["area"]
                for name, found in run["policies"].items():
                    gains[name].append(100 * (found["area"] - base))
                chosen = run["policies"].get(run["best_policy"])
                if chosen is not None:
                    gains["chosen on validation data"].append(100 * (chosen["area"] - base))
        return dict(gains)

    def policy_table(self, tasks: list[str]) -> str:
        """All policies against entropy."""
        gains = self.policy_gains(tasks)
        chosen = [run["best_policy"] for run in self.runs if run["task"] in tasks and len(run["exits"]) > 1]
        body = []
        for name in sorted(gains, key=lambda n: -statistics.mean(gains[n])):
            values = gains[name]
            up = sum(value > 0 for value in values)
            often = "" if name == "chosen on validation data" else str(chosen.count(name))
            body.append([name, str(len(values)), _signed(values), "" if name == "entropy" else str(up), often])
        return table(["policy", "runs", "area - entropy's", "better in", "best on validation data in"], body)

    def at_two(self, tasks: list[str], choice: str) -> dict[str, float]:
        """Recipe to the mean over tasks of its metric at 2x, in percent."""
        found = {r: [self.mean(t, r, choice, "2x") for t in tasks] for r in self.recipes}
        return {r: 100 * statistics.mean(v or 0.0 for v in values) for r, values in found.items() if None not in values}


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    text = f"{100 * row['mean']:.1f}"
    return text if row["low"] is None else f"{text} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _signed(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):+.1f} ± {spread:.1f}"


def write_report(folder: Path) -> None:
    """Write the part of results_small.md and results_study.png into a folder."""
    found = Study()
    root = bench.ROOT
    learnt = [task for task in found.tasks if task in LEARNT]
    gains = found.policy_gains(learnt)
    fitted = found.policy_gains(learnt, without="de3")["edr"]  # DE3-BERT trains its prototypes
    values = {
        "runs": str(len(found.runs)),
        "hours": f"{sum(run['seconds'] for run in found.runs) / 3600:.1f}",
        "missing": _missing(found),
        "policy_table": found.policy_table(learnt),
        "learnt": _list([NAMES[task] for task in learnt]),
        "stacked_note": _note(gains),
        "ranks_own": found.rank_table(OWN, learnt),
        "ranks_best": found.rank_table(BEST, learnt),
        "bound_table": found.bound_table(),
        "gain_edr": _signed(fitted),
        "edr_up": str(sum(value > 0 for value in fitted)),
        "edr_runs": str(len(fitted)),
        **_stacked(found, learnt),
        **_sentences(found, learnt),
    }
    write_part(folder / "results_small.md", "study", fill(root / "benchmarks" / "study_report.md", values))
    _plot(found, folder / "results_study.png")


def _list(names: list[str]) -> str:
    return names[0] if len(names) < 2 else f"{', '.join(names[:-1])} and {names[-1]}"


def _stacked(found: Study, tasks: list[str]) -> dict[str, str]:
    """The stacked policy against EDR on the same runs; EDR with fitted prototypes and with trained ones."""
    several = [run for run in found.runs if run["task"] in tasks and len(run["exits"]) > 1]
    pairs = [run["policies"] for run in several if "stacked" in run["policies"]]
    against = [100 * (pair["stacked"]["area"] - pair["edr"]["area"]) for pair in pairs]

    def gain(recipe: str) -> float:
        runs = [run["policies"] for run in several if run["recipe"] == recipe]
        return float(statistics.mean(100 * (p["edr"]["area"] - p["entropy"]["area"]) for p in runs))

    return {
        "stacked_edr": _signed(against),
        "stacked_up": str(sum(value > 0 for value in against)),
        "stacked_runs": str(len(against)),
        "edr_joint": f"{gain('joint'):+.1f}",
        "edr_de3": f"{gain('de3'):+.1f}",
    }


def _note(gains: dict[str, list[float]]) -> str:
    fewer = [name for name, values in gains.items() if len(values) < len(gains["entropy"])]
    if not fewer:
        return ""
    names = _list([f"`{name}`" for name in sorted(fewer)])
    return f"{names} changed during the study and are compared only in the runs started after that."


def _missing(found: Study) -> str:
    seeds = {task: sorted({run["seed"] for run in found.runs if run["task"] == task}) for task in found.tasks}
    few = [NAMES[task] for task in found.tasks if len(seeds[task]) < 2]
    gaps = []
    for task in found.tasks:
        for recipe in [*found.recipes, *found.bound]:
            there = {run["seed"] for run in found.runs if (run["task"], run["recipe"]) == (task, recipe)}
            if there != set(seeds[task]):
                gaps.append(f"{NAMES[task]} {recipe}")
    text = f"The second seed of {_list(few)} did not fit in the time. " if few else ""
    return text + (f"Not all seeds: {', '.join(gaps)}. " if gaps else "")


def _sentences(found: Study, tasks: list[str]) -> dict[str, str]:
    """The figures in the sentences of the main results."""
    ranks = found.ranks(BEST, tasks)
    by_area = sorted((ranks[r, "area"], r) for r in found.recipes if (r, "area") in ranks)
    at_two, own_two = found.at_two(tasks, BEST), found.at_two(tasks, OWN)
    best_two = max(at_two, key=at_two.__getitem__)
    threes = [
        row for row in found.rows if row["recipe"] == "first_3" and row["choice"] == OWN and row["mean"] is not None
    ]
    first_three = statistics.mean(100 * row["mean"] for row in threes if row["task"] in tasks)
    return {
        "first_by_area": by_area[0][1],
        "second_by_area": by_area[1][1],
        "third_by_area": by_area[2][1],
        "last_by_area": by_area[-1][1],
        "best_at_two": best_two,
        "best_at_two_value": f"{at_two[best_two]:.1f}",
        "joint_at_two": f"{at_two['joint']:.1f}",
        "joint_own_at_two": f"{own_two['joint']:.1f}",
        "beating_own": str(sum(value > first_three for value in own_two.values())),
        "recipes_own": str(len(own_two)),
        "first_three": f"{first_three:.1f}",
        "beating_bound": str(sum(value > first_three for value in at_two.values())),
        "recipes_at_two": str(len(at_two)),
    }


def _plot(found: Study, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 8.6), layout="constrained")
    colours = plt.get_cmap("tab20")
    for axis, task in zip(axes.flat, found.tasks, strict=False):
        for number, recipe in enumerate(found.recipes):
            points = [
                (float(at[:-1]), m) for at in COLUMNS[:-1] if (m := found.mean(task, recipe, BEST, at)) is not None
            ]
            x, y = zip(*((s, 100 * m) for s, m in points), strict=True) if points else ((), ())
            style = {"color": colours(number % 20), "marker": "o", "markersize": 3, "linewidth": 1.2}
            axis.plot(x, y, label=recipe, **style)
        for recipe in found.bound:
            row = next((r for r in found.rows if (r["task"], r["recipe"]) == (task, recipe) and r["mean"]), None)
            if row is not None:
                label = "first k layers alone" if recipe == found.bound[0] else None
                axis.plot(6 / row["layers"], 100 * row["mean"], "k*", markersize=9, label=label, linestyle="none")
        axis.set_title(NAMES[task])
        axis.set_xlabel("speed-up by layers")
        axis.set_ylabel(f"{METRICS.get(_metric(found, task), _metric(found, task))} (%)")
        axis.grid(alpha=0.3)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=7, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _metric(found: Study, task: str) -> str:
    return str(next(row["metric"] for row in found.rows if row["task"] == task))


if __name__ == "__main__":
    write_report(bench.ROOT / "docs")
