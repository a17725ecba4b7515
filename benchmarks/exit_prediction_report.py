"""docs/exit_prediction.md from the results of benchmarks/exit_prediction.py."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from page import fill, table
from recipe import RESULTS, ROOT

TEMPLATE = ROOT / "benchmarks" / "exit_prediction_report.md"
TASKS = {"snli": "SNLI", "sst2": "SST-2", "qqp": "QQP", "ag_news": "AG's News", "imdb": "IMDB"}
NO_PREDICTOR = ("policy", "any choice")
Results = dict[str, dict[str, Any]]


def load() -> Results:
    """The results by task, in the order of the tables."""
    found = {}
    for task in TASKS:
        path = RESULTS / "exit_prediction" / f"{task}.json"
        if path.exists():
            found[task] = json.loads(path.read_text(encoding="utf-8"))
    if not found:
        raise SystemExit("no results: run benchmarks/exit_prediction.py run first")
    return found


def kinds(results: Results) -> list[str]:
    """All that was compared with a fixed exit."""
    first = next(iter(results.values()))["speeds"]["2"]
    return [name for name, figures in first.items() if isinstance(figures, dict)]


def predictors(results: Results) -> list[str]:
    """What reads tokens and nothing else."""
    return [name for name in kinds(results) if name not in NO_PREDICTOR and "training rows" not in name]


def gain(figures: dict[str, float]) -> str:
    """In points, with its interval."""
    return f"{100 * figures['gain']:+.1f} ({100 * figures['low']:+.1f} to {100 * figures['high']:+.1f})"


def best(results: Results, speed: str) -> str:
    """The predictor with the largest mean gain over the tasks."""
    every = results.values()
    return max(predictors(results), key=lambda name: statistics.mean(r["speeds"][speed][name]["gain"] for r in every))


def headline(results: Results) -> str:
    """A row for each task and speed-up."""
    rows = []
    for task, result in results.items():
        for speed, figures in result["speeds"].items():
            name = best(results, speed)
            shown = [figures["table"], figures[name], figures["policy"], figures["any choice"]]
            accuracy = [f"{100 * figures['full']:.1f}", f"{100 * figures['fixed']:.1f}"]
            rows.append([TASKS[task], f"{speed}x", *accuracy, *(gain(one) for one in shown)])
    header = [
        "task",
        "speed-up",
        "last exit",
        "fixed exit",
        "table",
        "best predictor",
        "policy (no predictor)",
        "any choice",
    ]
    return table(header, rows)


def wins(results: Results, name: str, speed: str) -> int:
    """On how many tasks a predictor is above the fixed exit, with an interval that leaves zero out."""
    return sum(result["speeds"][speed][name]["low"] > 0 for result in results.values())


def verdict(results: Results) -> str:
    """What the tables say, in words that follow from the figures."""
    parts = []
    for speed in ("2", "3"):
        name = best(results, speed)
        clear = wins(results, name, speed)
        answer = "yes" if clear >= 3 else "no"
        parts.append(
            f"at {speed}x {answer}: the best of {len(predictors(results))} predictors on these test rows ({name}) is "
            f"above a fixed exit, with an interval that leaves zero out, on {clear} of {len(results)} tasks"
        )
    table_clear = max(wins(results, "table", speed) for speed in ("2", "3"))
    text = "; ".join(parts) + f". GEEP's table itself, as it is: on {table_clear} at most."
    return text[0].upper() + text[1:]


def correlations(results: Results) -> str:
    """How well the order of texts is known, and how well it would have to be."""
    rows = []
    shown = ("table", "product, calibrated", "learned table", "linear on embeddings")
    for task, result in results.items():
        for speed, figures in result["speeds"].items():
            needed = figures["break_even"]
            known = [f"{figures[name]['rank_correlation']:.2f}" for name in shown]
            wanted = "never" if needed is None else "any" if needed <= 0.02 else f"{needed:.2f}"
            rows.append([TASKS[task], f"{speed}x", *known, wanted])
    return table(["task", "speed-up", *shown, "needed to beat a fixed exit"], rows)


def break_even(results: Results) -> str:
    """How often the order suffices."""
    cells = [figures for result in results.values() for figures in result["speeds"].values()]
    known = ("table", "product, calibrated", "learned table", "linear on embeddings")
    enough = sum(
        one["break_even"] is not None and one["break_even"] <= max(one[name]["rank_correlation"] for name in known)
        for one in cells
    )
    never = sum(one["break_even"] is None for one in cells)
    return (
        f"Of {len(cells)} cases {enough} have an order from tokens that is good enough; in {never} not even "
        "the policy's own exits beat the fixed one."
    )


def gains(results: Results) -> str:
    """All predictors at 2x and 3x on all tasks."""
    rows = []
    for name in kinds(results):
        row = [name]
        for speed in ("2", "3"):
            for result in results.values():
                one = result["speeds"][speed][name]
                row.append(f"{100 * one['gain']:+.1f}" + ("*" if one["low"] > 0 or one["high"] < 0 else ""))
        rows.append(row)
    return table(["predictor", *(f"{TASKS[task]} {speed}x" for speed in ("2", "3") for task in results)], rows)


def span(values: list[float]) -> str:
    """The least and the largest."""
    return f"{min(values):.2f} to {max(values):.2f}"


def write_report(folder: Path = ROOT / "docs") -> None:
    """The page."""
    results = load()
    tables = [figures["table"] for result in results.values() for figures in result["speeds"].values()]
    sizes = [f"{TASKS[task]} {r['train_rows']:,} and {r['test_rows']:,}" for task, r in results.items()]
    unseen = ", ".join(f"{TASKS[task]} {r['fit_rows']:,}" for task, r in results.items())
    values = {
        "verdict": verdict(results),
        "models": "all-MiniLM-L6-v2, trained with its own last exit as teacher, 3 epochs, bf16, CPU",
        "headline": headline(results),
        "spread": span([one["spread"] for one in tables]),
        "spread_taken": span([one["spread_taken"] for one in tables]),
        "break_even": break_even(results),
        "correlations": correlations(results),
        "gains": gains(results),
        "fit_rows": unseen,
        "rows": ", ".join(sizes),
    }
    (folder / "exit_prediction.md").write_text(fill(TEMPLATE, values), encoding="utf-8")


if __name__ == "__main__":
    write_report()
