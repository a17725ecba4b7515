"""What `recipe_clock.py` measured, as tables and sentences of docs/results.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np
from page import table
from recipe import RESULTS

MEASURED = (2.0, 3.0)  # speed-ups by layers that are shown

Found = dict[str, dict[str, Any]]  # task to what was measured


def load() -> Found:
    """Every task's measurement."""
    paths = sorted((RESULTS / "recipe_clock").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def times_faster(one: Mapping[str, Any], way: str) -> float:
    """How much faster than full depth a way was."""
    return float(one["ways"]["1x"]["seconds"] / one["ways"][way]["seconds"])


def in_cell(found: Found, task: str) -> str:
    """The speed-ups of a task by the clock, "-" where it was not measured."""
    if task not in found:
        return "-"
    return ", ".join(f"{times_faster(found[task], f'{speed:g}x'):.1f}x" for speed in MEASURED)


def early_at(one: Mapping[str, Any], seconds: float) -> float | None:
    """The accuracy of early exit that takes so long, between the measured points; None outside of them."""
    early = sorted((way["seconds"], way["accuracy"]) for name, way in one["ways"].items() if name.endswith("x"))
    times, right = np.asarray(early).T
    return float(np.interp(seconds, times, right)) if times[0] <= seconds <= times[-1] else None


def leads(found: Found, arm: str) -> list[float]:
    """How far early exit that takes as long as some first layers alone is ahead of them, a task each."""
    given = ((early_at(one, one["ways"][arm]["seconds"]), one) for one in found.values() if arm in one["ways"])
    return [early - one["ways"][arm]["accuracy"] for early, one in given if early is not None]


def in_words(found: Found, first_layers: Mapping[float, str]) -> str:
    """The table in two sentences."""
    if not found:
        return "By the clock nothing has been measured."
    faster, ahead = [], []
    for speed in MEASURED:
        each = [times_faster(one, f"{speed:g}x") for one in found.values()]
        faster.append(f"{speed:g}x by layers was {min(each):.1f}x to {max(each):.1f}x")
    for arm in first_layers.values():
        if own := leads(found, arm):
            lead, where = 100 * statistics.mean(own), f"as long as the first {arm[-1]} layers alone"
            ahead.append(f"{where} is {abs(lead):.1f} points {'ahead' if lead > 0 else 'behind'} ({len(own)} tasks)")
    words = f"By the clock {', '.join(faster)}."
    return words + (f" Early exit that takes {', '.join(ahead)}." if ahead else "")


def by_clock(found: Found, names: Mapping[str, str], first_layers: Mapping[float, str]) -> str:
    """The table: seconds at full depth, speed-ups, and accuracy in the time of the first layers alone."""
    rows = []
    for task in filter(found.__contains__, names):
        one = found[task]
        row = [names[task], f"{1e3 * one['ways']['1x']['seconds'] / one['rows']:.2f}"]
        row += [f"{times_faster(one, f'{speed:g}x'):.2f}x" for speed in MEASURED]
        for arm in first_layers.values():
            if arm not in one["ways"]:
                row += ["-", "-"]
                continue
            alone = one["ways"][arm]
            early = early_at(one, alone["seconds"])
            row.append(f"{100 * alone['accuracy']:.1f} ({times_faster(one, arm):.2f}x)")
            row.append("-" if early is None else f"{100 * early:.1f}")
        rows.append(row)
    if not rows:
        return "Not measured yet."
    header = ["task", "full depth, ms a text", *(f"{speed:g}x by layers" for speed in MEASURED)]
    for arm in first_layers.values():
        header += [f"first {arm[-1]} layers", "early exit, as long"]
    return table(header, rows)


def setting(found: Found) -> str:
    """On what it was measured, in words."""
    if not found:
        return "not measured yet"
    one = next(iter(found.values()))
    where = ", ".join(sorted({each["device"] for each in found.values()}))
    seeds = ", ".join(map(str, sorted({each["seed"] for each in found.values()})))
    rounds = min(each["rounds"] for each in found.values())
    how = f"batches of {one['batch_size']}, seed {seeds}, the fastest of {rounds} rounds or more"
    return f"{where}, {one['threads']} thread, {one['precision']}, {how}"
