"""docs/recipe.md from the results of benchmarks/recipe.py; `results_page.py` calls it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import twelve_layers
from page import fill, table
from recipe import RESULTS, ROOT, SCREEN, SPEEDS, cells
from recipe_headline import ALL_TASKS, complete, interval_words, picture, points, seeds_in_words
from recipe_paired import OWN_RULE, RECOMMENDED, against, liked

TEMPLATE = ROOT / "benchmarks" / "recipe_report.md"
TASKS = {"snli": "SNLI", "sst2": "SST-2"}  # of the screen
# Arm to what differs from joint training; the order of the tables.
ARMS = {
    "joint": "joint training",
    "heads_3": "heads learn 3 times as fast",
    "heads_10": "heads learn 10 times as fast",
    "self": "own last exit teaches",
    "self_heads_10": "own last exit teaches, heads learn 10 times as fast",
    "teacher": "single-exit model teaches",
    "teacher_heads_10": "single-exit model teaches, heads learn 10 times as fast",
    "self_curriculum": "own last exit teaches, heads learn 10 times as fast, easy rows first",
    "chain": "each exit learns from the next",
    "chain_heads_10": "each exit learns from the next, heads learn 10 times as fast",
    "features": "own last exit's features teach",
    "start": "shallow layers start from sentence vectors",
    "past_future": "heads read earlier exits (GPFEE)",
    "depth": "exit i weighs i",
    "learned_weights": "learnt exit weights",
    "de3": "DE3-BERT",
    "de3_heads_10": "DE3-BERT, heads learn 10 times as fast",
    "fastbert": "FastBERT's two stages",
    "deebert": "DeeBERT's two stages",
    "romebert": "RomeBERT",
    "joint_frozen_ce": "joint, then the heads alone, frozen encoder",
    "joint_frozen_kd": "joint, then the heads alone, taught by the last exit",
    "joint_frozen_past": "joint, then heads that read all exits so far",
    "self_frozen_ce": "own last exit teaches, then the heads alone",
    "self_frozen_kd": "own last exit teaches, then the heads alone, taught",
    "self_frozen_past": "own last exit teaches, then heads that read all exits so far",
}
# Arm to what it changes of the recommended recipe.
CHANGES = {
    "self": "heads at the encoder's rate",
    "heads_10": "no teacher",
    "joint": "neither",
    "teacher_heads_10": "a single-exit model teaches",
    "chain_heads_10": "each exit learns from the next",
    "self_curriculum": "easy rows first",
    "self_heads_10_frozen_ce": "afterwards the heads alone, on labels",
    "self_heads_10_frozen_kd": "afterwards the heads alone, taught by the last exit",
    "self_heads_10_frozen_past": "afterwards heads that read all exits so far",
}
BOUNDS = {
    "single": "all 6 layers, one exit",
    "hf_trainer": "the same by transformers' Trainer",
    "first_3": "first 3 layers, one exit",
    "first_2": "first 2 layers",
}


def load(study: str = "recipe_screen") -> list[dict[str, Any]]:
    """All results of a study."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / study).glob("*.json"))]


def arms_table(results: Sequence[dict[str, Any]], task: str) -> str:
    """One row an arm, means over the seeds: accuracy of the exits, then by `Stacked` at 2x and 3x, and its area.

    A last column names the seeds, where the results have several.
    """
    rows, several = [], len({result["seed"] for result in results}) > 1
    for name, meaning in (ARMS | BOUNDS).items():
        found = [result for result in results if (result["task"], result["arm"]) == (task, name)]
        if not found:
            continue
        exits = [dict(zip(result["layers"], result["exits"], strict=True)) for result in found]
        means = [_mean([each.get(layer) for each in exits]) for layer in range(1, 7)]
        row = [meaning, *map(points, means)]
        if found[0]["rules"]:
            own = [result["rules"][OWN_RULE] for result in found]
            row += [points(_mean([rule["at"][speed] for rule in own])) for speed in ("2", "3")]
            row.append(points(_mean([rule["area"] for rule in own])))
        else:
            row += ["-"] * 3
        rows.append(row + [", ".join(str(result["seed"]) for result in found)] * several)
    header = ["training", *(f"exit {i}" for i in range(1, 7)), "2x", "3x", "area", *["seeds"] * several]
    return table(header, rows) if rows else "No cell has been run yet."


def ablations(results: Sequence[dict[str, Any]]) -> str:
    """Every arm that changes one thing of the recommended recipe against it, paired over tasks and seeds."""
    rows = []
    for arm, change in CHANGES.items():
        cells = {(r["task"], r["seed"]): r for r in results if r["arm"] == arm}
        own = [r for r in results if r["arm"] == RECOMMENDED and (r["task"], r["seed"]) in cells]
        pairs = [(cells[r["task"], r["seed"]], r) for r in own]
        if pairs:
            known = {task: [r["seed"] for r in own if r["task"] == task] for task in ALL_TASKS}
            found = [against(pairs, speed) for speed in (1.5, 2.0, 3.0)]
            rows.append([change, seeds_in_words(known), *map(interval_words, found)])
    return table(["change", "tasks and seeds", "1.5x", "2x", "3x"], rows) if rows else "No cell has been run yet."


def prototypes_table() -> str:
    """`Stacked` with and without the distance to fitted prototypes, by `recipe_prototypes.py`; means over the seeds."""
    cells: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in json.loads((RESULTS / "recipe_prototypes.json").read_text(encoding="utf-8")):
        cells.setdefault((one["study"], one["arm"], one["task"]), []).append(one)
    rows = []
    for (study, arm, task), seeds in cells.items():
        name, layers = (ALL_TASKS | twelve_layers.TASKS)[task], "12" if study == "twelve_layers" else "6"

        def mean(kind: str, speed: str, seeds: list[dict[str, Any]] = seeds) -> str:
            return points(statistics.mean(one[kind][speed] for one in seeds))

        at = [f"{mean('with', speed)} / {mean('without', speed)}" for speed in ("1.5", "2", "3")]
        rows.append([layers, name, ARMS[arm], ", ".join(str(one["seed"]) for one in seeds), *at])
    return table(["layers", "task", "training", "seeds", "1.5x", "2x", "3x"], rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None


def rules_table(results: Sequence[dict[str, Any]]) -> str:
    """One row a rule: its mean over all cells that have it, and how often validation rows liked it best."""
    having = [result for result in results if result["rules"]]
    if not having:
        return "No cell has been run yet."
    names = [name for name in having[0]["rules"] if all(name in result["rules"] for result in having)]
    rows = []
    for name in names:
        row = [name]
        for speed in SPEEDS:
            values = [result["rules"][name]["at"][f"{speed:g}"] for result in having]
            known = [value for value in values if value is not None]
            row.append(points(statistics.mean(known)) if len(known) == len(values) else "-")
        areas = [result["rules"][name].get("area") for result in having]
        row.append(points(statistics.mean(areas)) if None not in areas else "-")
        row.append(str(sum(liked(result, 2.0) == name for result in having)))
        rows.append(row)
    rows.sort(key=lambda row: row[2], reverse=True)
    header = ["rule", *(f"{speed:g}x" for speed in SPEEDS), "area", f"best on validation rows at 2x, of {len(having)}"]
    return table(header, rows)


def full_sizes() -> str:
    """The part on more rows: the tables of the tasks that have results."""
    results, parts = load("recipe_full"), []
    for task, name in ALL_TASKS.items():
        own = [result for result in results if result["task"] == task]
        if own:
            rows = sorted({(result["train_rows"], result["val_rows"], result["test_rows"]) for result in own})
            sizes = "; ".join(
                f"{train:,} training, {val:,} validation, {test:,} test rows" for train, val, test in rows
            )
            seeds = ", ".join(str(seed) for seed in sorted({result["seed"] for result in own}))
            parts.append(f"### {name}\n\n{sizes}; seed{'s' * (',' in seeds)} {seeds}.\n\n{arms_table(own, task)}")
    return "\n\n".join(parts)


def write_report(folder: Path = ROOT / "docs") -> None:
    """The page, and the picture of the headline."""
    results = load()

    def seen(key: str, task: str | None = None) -> str:
        """All values of a key, numbers with their commas."""
        found = sorted({result[key] for result in results if task in (None, result["task"])})
        return " and ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in found) or "-"

    values = {f"table_{task}": arms_table(results, task) for task in TASKS}
    values |= {f"{rows}_{task}": seen(rows, task) for rows in ("test_rows", "val_rows") for task in TASKS}
    values |= {key: seen(key) for key in ("train_rows", "epochs", "precision", "device", "seed")}
    values |= {"rules": rules_table(results), "cells": str(len(results)), "missing": missing(results)}
    values |= {"full_sizes": full_sizes(), "ablations": ablations(load("recipe_full"))}
    values |= {"prototypes": prototypes_table()}
    (folder / "recipe.md").write_text(fill(TEMPLATE, values), encoding="utf-8")
    more = load("recipe_full")
    if complete(more):
        picture(more, folder / "recipe.png")


def missing(results: Sequence[dict[str, Any]]) -> str:
    """The cells of the screen that have no result."""
    done = {(result["task"], result["arm"]) for result in results}
    left: dict[str, list[str]] = {}
    for cell in cells(SCREEN, None):
        if (cell.task, cell.recipe) not in done:
            left.setdefault(cell.recipe, []).append(TASKS[cell.task])
    return ", ".join(f"{arm} ({', '.join(tasks)})" for arm, tasks in left.items()) or "none"
