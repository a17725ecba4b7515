"""docs/results.md, its pictures, docs/recipe.md and README's table, from benchmarks/results/: one command.

python benchmarks/results_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import claims
import recipe_by_clock
import recipe_headline as top
import recipe_report
import twelve_layers
from page import fill
from recipe import ROOT, cells
from recipe_paired import RECOMMENDED, Result

TEMPLATE = ROOT / "benchmarks" / "results_page.md"
FULL = ROOT / "configs" / "study" / "recipe_full.yaml"
TWELVE = ROOT / "configs" / "study" / "twelve_layers.yaml"
NAMES = top.ALL_TASKS | twelve_layers.TASKS
BOUNDS = {"single": "the single-exit model", "hf_trainer": "transformers' own Trainer", "joint": "joint training"}


def train_rows(results: Sequence[Result]) -> str:
    """Training rows, in words."""
    by_rows: dict[int, list[str]] = {}
    for task, arms in top.complete(results).items():
        by_rows.setdefault(arms[RECOMMENDED][0]["train_rows"], []).append(top.ALL_TASKS[task])
    return ", ".join(f"{rows:,} of {', '.join(tasks)}" for rows, tasks in sorted(by_rows.items(), reverse=True))


def full_depth_of(results: Sequence[Result]) -> str:
    """What full depth is the best of."""
    every = top.complete(results).values()
    names = [name for arm, name in BOUNDS.items() if every and all(arm in arms for arms in every)]
    return ", ".join(names[:-1]) + f" and {names[-1]}"


def fewer_seeds(results: Sequence[Result]) -> str:
    """Which bounds have run with fewer seeds than the recommended recipe, in a sentence."""
    found = []
    for arm, name in {top.HF_TRAINER: "transformers' Trainer", "first_2": "the first layers alone"}.items():
        tasks = [
            NAMES[task]
            for task, arms in top.complete(results).items()
            if 0 < len(arms.get(arm, ())) < len(arms[RECOMMENDED])
        ]
        found += [f"{name} ({', '.join(tasks)})"] if tasks else []
    return f" With fewer seeds: {', '.join(found)}." if found else ""


def sentences(rows: Sequence[top.Row]) -> dict[str, str]:
    """What is said below the paired table.

    `tested`: from which others Wilcoxon's test tells the recommended recipe apart, its p values corrected for so many
    tests. `liked`: how far the means would move if each training were read by the rule that its validation rows liked
    best.
    """
    from scipy.stats import false_discovery_control

    tests = [(row, row.found.p_value) for row in rows if row.found.p_value is not None]
    corrected = false_discovery_control([p for _, p in tests]) if tests else []
    tested = [f"{row.name} at {row.speed:g}x" for (row, _), p in zip(tests, corrected, strict=True) if p < 0.05]
    moved = [abs(row.by_liked - row.found.mean) for row in rows if row.by_liked is not None]
    return {"tested": ", ".join(tested) or "nothing", "liked": f"{100 * max(moved, default=0):.1f}"}


def summary(results: Sequence[Result], rows: Sequence[top.Row]) -> str:
    """What the page has to say, a line for each speed-up."""
    tasks, parts = top.complete(results), []
    for speed in top.FIRST_LAYERS if tasks else ():
        everywhere = [row for row in rows if row.speed == speed and row.tasks == tasks.keys()]
        found = {row.name: row.found for row in everywhere}
        lost = found.pop("full depth")
        low, high = -100 * lost.interval.high, -100 * lost.interval.low
        ahead = [f"{name} (by {100 * one.mean:.1f})" for name, one in found.items() if one.interval.low > 0]
        tied = [name for name, one in found.items() if one.interval.low <= 0 <= one.interval.high]
        behind = [name for name, one in found.items() if one.interval.high < 0]
        words = f"- **At {speed:g}x {-100 * lost.mean:.1f} points below full depth** ({low:.1f} to {high:.1f})"
        sides = {"ahead of": ahead, "not told apart from": tied, "behind": behind}
        words += "".join(f"; {side} {', '.join(names)}" for side, names in sides.items() if names) + "."
        better = [
            top.ALL_TASKS[task]
            for task, arms in tasks.items()
            if max(top.mean_at(arms[arm], speed) for arm in top.EVERYWHERE) > top.mean_at(arms[RECOMMENDED], speed)
        ]
        parts.append(f"{words} {top.OTHERS} scores higher on {', '.join(better) or 'no task'}.")
    return "\n".join(parts)


def missing(config: Path, results: Sequence[Result], arms: Sequence[str]) -> str:
    """The tasks and seeds of a study that have not got all of some arms yet, in words."""
    done = {(result["task"], result["arm"], result["seed"]) for result in results}
    left: dict[int, dict[str, int]] = {}
    for cell in cells(config, None):
        if (cell.task, cell.recipe, cell.seed) not in done and cell.recipe in arms:
            tasks = left.setdefault(cell.seed, {})
            tasks[NAMES[cell.task]] = tasks.get(NAMES[cell.task], 0) + 1
    if not left:
        return ""
    words = "; ".join(
        f"seed {seed}: {', '.join(f'{task} ({count} of {len(arms)})' for task, count in tasks.items())}"
        for seed, tasks in left.items()
    )
    return (
        f"*Trainings that have not been run yet: {words}. "
        f"`python benchmarks/recipe.py run --config configs/study/{config.name}` goes on.*"
    )


def write_page(folder: Path = ROOT / "docs", readme: Path | None = ROOT / "README.md") -> None:
    """Write everything."""
    results, deep = recipe_report.load("recipe_full"), recipe_report.load("twelve_layers")
    recipe_report.write_report(folder)
    found, clock = top.paired(results), recipe_by_clock.load()
    values = {
        "train_rows": train_rows(results),
        "seeds": top.seeds(results),
        "headline": top.headline(results),
        "standard_errors": top.standard_errors(results),
        "full_depth_of": full_depth_of(results),
        "fewer_seeds": fewer_seeds(results),
        "clock": recipe_by_clock.setting(clock),
        "clock_words": recipe_by_clock.in_words(clock, top.FIRST_LAYERS),
        "by_clock": recipe_by_clock.by_clock(clock, NAMES, top.FIRST_LAYERS),
        "aims": top.aims(results),
        "paired": top.paired_table(found),
        "summary": summary(results, found),
        "left": missing(FULL, results, [RECOMMENDED, "single", "joint", "de3", "fastbert", *top.FIRST_LAYERS.values()]),
        **sentences(found),
        **twelve_layers.values(deep),
        "twelve_left": missing(TWELVE, deep, twelve_layers.EVERYWHERE),
        "claims": claims.table_of(results, deep),
    }
    (folder / "results.md").write_text(fill(TEMPLATE, values), encoding="utf-8")
    twelve_layers.picture(deep, folder / "results_twelve.png")
    if readme is not None:
        top.write_headline(readme, results)


if __name__ == "__main__":
    write_page()
