"""The recommended recipe against full depth, published recipes and the first layers alone: tables and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import recipe_by_clock
from page import p_words, replace_between, table
from panels import panels, save_with_legend
from recipe import SPEEDS
from recipe_paired import LAST, OWN_RULE, RECOMMENDED, Against, Result, against, at_speed, liked

ALL_TASKS = {"snli": "SNLI", "sst2": "SST-2", "qqp": "QQP", "ag_news": "AG's News", "imdb": "IMDB"}
PUBLISHED = {"de3": "DE3-BERT", "fastbert": "FastBERT", "romebert": "RomeBERT"}
EVERYWHERE = ("de3", "fastbert")  # the published recipes that have run on all tasks with all seeds
OTHERS = " or ".join(PUBLISHED[arm] for arm in EVERYWHERE)
CURVES = {
    RECOMMENDED: ("recommended", "#d62728"),
    "joint": ("joint training", "#888888"),
    "de3": ("DE3-BERT", "#1f77b4"),
    "fastbert": ("FastBERT", "#2ca02c"),
}
HF_TRAINER = "hf_trainer"
FULL_DEPTH = ("single", HF_TRAINER, "joint")
FIRST_LAYERS = {2.0: "first_3", 3.0: "first_2"}  # of 6 layers, as bounds at these speed-ups by layers
AIMS = {1.0: 1.0, 2.0: 0.99, 3.0: 0.965}  # of full depth, by speed-up
MARKS = "<!-- headline: benchmarks/results_page.py writes this -->", "<!-- end of headline -->"

Arms = dict[str, list[Result]]  # arm to its results, a seed each


def points(value: float | None) -> str:
    """An accuracy in percent."""
    return "-" if value is None else f"{100 * value:.1f}"


def complete(results: Sequence[Result]) -> dict[str, Arms]:
    """Task to the results by arm, of those seeds that have what the comparison needs.

    Of bounds fewer seeds are enough, but one for each task: transformers' Trainer is left out until it has run for all
    tasks, so that full depth means the same everywhere.
    """
    needed = {RECOMMENDED, "single", "joint", *EVERYWHERE}
    found: dict[str, Arms] = {}
    for task in ALL_TASKS:
        own = [result for result in results if result["task"] == task]
        if not set(FIRST_LAYERS.values()) <= {result["arm"] for result in own}:
            continue
        for seed in sorted({result["seed"] for result in own}):
            arms = {result["arm"]: result for result in own if result["seed"] == seed}
            for arm, result in arms.items() if needed <= arms.keys() else ():
                found.setdefault(task, {}).setdefault(arm, []).append(result)
    if any(HF_TRAINER not in known for known in found.values()):
        for known in found.values():
            known.pop(HF_TRAINER, None)
    return found


def mean_at(results: Sequence[Result], speed: float) -> float:
    """The mean accuracy over the seeds at a speed-up; at 1, of the last exit."""
    return statistics.mean(result["exits"][-1] if speed == 1 else at_speed(result, speed) for result in results)


def full_depth_arm(arms: Arms) -> str:
    """The arm with the best last exit of those that are trained for it, mean over the seeds that it has."""
    return max((arm for arm in FULL_DEPTH if arm in arms), key=lambda arm: mean_at(arms[arm], 1.0))


def full_depth(arms: Arms) -> float:
    """Its accuracy."""
    return mean_at(arms[full_depth_arm(arms)], 1.0)


def headline(results: Sequence[Result]) -> str:
    """One row a task: full depth, the recommended recipe, the best published one, the first layers alone, the clock.

    Of each speed-up the largest is bold.
    """
    rows, clock = [], recipe_by_clock.load()
    for task, arms in complete(results).items():
        full, own, others, alone = full_depth(arms), [], [], []
        for speed, bound in FIRST_LAYERS.items():
            best = max(EVERYWHERE, key=lambda arm: mean_at(arms[arm], speed))
            values = [mean_at(arms[arm], speed) for arm in (RECOMMENDED, best, bound)]
            words = [f"**{points(v)}**" if points(v) == points(max(values)) else points(v) for v in values]
            own.append(f"{words[0]} ({100 * values[0] / full:.1f} %)")
            others.append(f"{words[1]} ({PUBLISHED[best]})")
            alone.append(words[2])
        rows.append([ALL_TASKS[task], points(full), *own, *others, *alone, recipe_by_clock.in_cell(clock, task)])
    if not rows:
        return "No task is complete yet."
    speeds = [f"{speed:g}x" for speed in FIRST_LAYERS]
    header = ["task", "full depth", *(f"recommended, {speed} (of full depth)" for speed in speeds)]
    header += [f"{OTHERS}, {speed}" for speed in speeds]
    return table([*header, "first 3 layers (2x)", "first 2 layers (3x)", "wall clock at 2x, 3x"], rows)


def standard_errors(results: Sequence[Result]) -> str:
    """One standard error of the test rows at full depth, a task each, in words."""
    found = []
    for task, arms in complete(results).items():
        right, rows = full_depth(arms), arms[RECOMMENDED][0]["test_rows"]
        error = 100 * (right * (1 - right) / rows) ** 0.5
        found.append(f"{ALL_TASKS[task]} {error:.1f} points ({rows:,} rows)")
    return f"One standard error of an accuracy: {', '.join(found)}."


def seeds(results: Sequence[Result]) -> str:
    """Which seeds the tasks have, in words."""
    return seeds_in_words({task: [r["seed"] for r in arms[RECOMMENDED]] for task, arms in complete(results).items()})


def seeds_in_words(by_task: Mapping[str, Sequence[int]]) -> str:
    """Tasks with their seeds, those with the same ones together; tasks without any are left out."""
    found: dict[tuple[int, ...], list[str]] = {}
    for task, own in by_task.items():
        if own:
            found.setdefault(tuple(own), []).append(ALL_TASKS[task])
    return "; ".join(
        f"{', '.join(tasks)}: {'seed' if len(key) == 1 else 'seeds'} {', '.join(map(str, key))}"
        for key, tasks in sorted(found.items(), reverse=True)
    )


def pairs_of(results: Sequence[Result], other: str) -> list[tuple[Result, Result]]:
    """The recommended recipe's cells and another arm's, of the same task and seed; `LAST` is full depth's."""
    return [
        (own, theirs)
        for arms in complete(results).values()
        for own in arms[RECOMMENDED]
        for theirs in arms.get(full_depth_arm(arms) if other == LAST else other, ())
        if own["seed"] == theirs["seed"]
    ]


@dataclass(frozen=True)
class Row:
    """The recommended recipe against another arm at a speed-up, over all tasks and seeds that have both."""

    speed: float
    name: str  # of the other, in words
    found: Against
    without: Against | None  # the same without SNLI, where the differences are largest
    by_liked: float | None  # the mean where each is read by the rule that validation rows liked best

    @property
    def tasks(self) -> set[str]:
        """Those that both have."""
        return {task for task, _ in self.found.differences}


def paired(results: Sequence[Result]) -> list[Row]:
    """The recommended recipe against full depth (also with its last exit) and every other arm of the headline.

    All are read by `Stacked`.
    """
    rows = []
    for speed in AIMS:
        bound = FIRST_LAYERS.get(speed)
        names = {LAST: "full depth"}
        if bound is not None:
            names |= {"joint": "joint training", **PUBLISHED, bound: f"the first {bound[-1]} layers"}
        for other, name in names.items():
            pairs = pairs_of(results, other)
            if not pairs:
                continue
            read = other not in (LAST, bound)
            rules = (LAST if speed == 1 else OWN_RULE, OWN_RULE if read else LAST)
            fewer = [pair for pair in pairs if pair[0]["task"] != "snli"]
            without = against(fewer, speed, rules) if fewer else None
            rows.append(
                Row(speed, name, against(pairs, speed, rules), without, by_liked(pairs, speed) if read else None)
            )
    return rows


def by_liked(pairs: Sequence[tuple[Result, Result]], speed: float) -> float:
    """The mean difference over the tasks where each is read by the rule that validation rows liked best."""
    by_task: dict[str, list[float]] = {}
    for own, theirs in pairs:
        difference = [at_speed(each, speed, liked(each, speed)) for each in (own, theirs)]
        by_task.setdefault(own["task"], []).append(difference[0] - difference[1])
    return statistics.mean(statistics.mean(values) for values in by_task.values())


def paired_table(rows: Sequence[Row]) -> str:
    """`paired` as a table, with the difference of each task."""
    tasks = list(dict.fromkeys(task for row in rows for task, _ in row.found.differences))
    lines = []
    for row in rows:
        one = row.found
        by_task = [[v for (task, _), v in one.differences.items() if task == wanted] for wanted in tasks]
        line = [f"{row.speed:g}x", row.name, interval_words(one)]
        line.append("" if row.without is None else interval_words(row.without))
        line += [f"{100 * statistics.mean(v):+.1f}" if v else "" for v in by_task]
        lines.append([*line, "" if one.p_value is None else f"{p_words(one.p_value)} ({len(one.differences)})"])
    header = ["speed", "recommended against", "mean over tasks (95 %)", "without SNLI (95 %)"]
    header += [*(ALL_TASKS[task] for task in tasks), "Wilcoxon (pairs)"]
    return table(header, lines) if rows else "No task is complete yet."


def interval_words(one: Against) -> str:
    """A difference in points with its interval."""
    return f"{100 * one.mean:+.1f} ({100 * one.interval.low:+.1f} to {100 * one.interval.high:+.1f})"


def picture(results: Sequence[Result], path: Path) -> None:
    """Accuracy as a share of full depth's against the speed-up, a panel a task; bands are one standard error."""
    import numpy as np

    found = complete(results)
    figure, axes = panels(len(found), sharey=True)
    for axis, (task, arms) in zip(axes, found.items(), strict=True):
        full = full_depth(arms)
        for arm, (name, colour) in CURVES.items():
            right = np.asarray([mean_at(arms[arm], speed) for speed in (1.0, *SPEEDS)])
            y, error = 100 * right / full, 100 * np.sqrt(right * (1 - right) / arms[arm][0]["test_rows"]) / full
            axis.plot((1.0, *SPEEDS), y, "o-", color=colour, label=name, markersize=4)
            if arm == RECOMMENDED:
                axis.fill_between((1.0, *SPEEDS), y - error, y + error, color=colour, alpha=0.15, linewidth=0)
        alone = [100 * mean_at(arms[bound], 1.0) / full for bound in FIRST_LAYERS.values()]
        axis.plot(list(FIRST_LAYERS), alone, "kx", label="first 3, first 2 layers alone")
        axis.axhline(100, color="black", linestyle=":", linewidth=1, label="full depth")
        axis.set_title(f"{ALL_TASKS[task]} (full depth: {points(full)} %)", fontsize=10)
        axis.set_xlabel("speed-up by layers", fontsize=9)
        axis.grid(alpha=0.3)
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel("accuracy, % of full depth's", fontsize=9)
    save_with_legend(figure, path)


def aims(results: Sequence[Result]) -> str:
    """Whether the recommended recipe keeps the shares of full depth that were aimed at, on average over the tasks."""
    sentences = []
    for speed, aim in AIMS.items():
        shares = [mean_at(arms[RECOMMENDED], speed) / full_depth(arms) for arms in complete(results).values()]
        if shares:
            reached = "reached" if statistics.mean(shares) >= aim else "missed"
            where = "with its last exit" if speed == 1 else f"at {speed:g}x"
            sentences.append(f"{100 * statistics.mean(shares):.2f} % {where} (aim {100 * aim:g} %: {reached})")
    return ", ".join(sentences)


def write_headline(readme: Path, results: Sequence[Result]) -> None:
    """Put the table into the README."""
    replace_between(
        readme, MARKS, f"{headline(results)}\n\n{standard_errors(results)} Bold: the best. {seeds(results)}."
    )
