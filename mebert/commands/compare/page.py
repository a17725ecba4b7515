"""The page: tables and charts of all runs, one block a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mebert.commands.compare.band import band_words
from mebert.commands.compare.chart_parts import metric_title
from mebert.commands.compare.curve_chart import CHOICES, curve_chart, reference_gflops
from mebert.commands.compare.exit_charts import exit_chart, leaving_chart
from mebert.commands.compare.page_tables import paired_section, run_table, settings_section, untested_section
from mebert.commands.compare.paired import Comparison, compare_runs
from mebert.commands.compare.seed_groups import SeedGroup, lines_of
from mebert.commands.compare.task_groups import TaskGroup
from mebert.commands.compare.training import (
    curriculum_charts,
    difficulty_charts,
    last_validation,
    samples_of,
    training_chart,
)
from mebert.report.page import Cell, Figure, Grid, Note, Part, Section, Table, write_page

__all__ = ["comparison_of", "write_comparison_page"]


def write_comparison_page(
    blocks: Sequence[TaskGroup], speedups: Sequence[float], policy: str | None, path: Path
) -> None:
    """Write the page.

    Args:
        blocks: Runs by task.
        speedups: By layers, for the table of runs and the paired tests.
        policy: What was asked for; None lets the reader choose between each run's own, entropy and the best.
        path: The file.
    """
    sections = []
    for block, lines in zip(blocks, lines_of(blocks), strict=True):
        found = _sections(block, lines, speedups, policy)
        several = sum(other.task == block.task for other in blocks) > 1
        rows = f" ({block.shown[0].tested.get('samples', 0):,} test rows)" if several and block.shown else ""
        sections.append(Section(f"{block.task}{rows}", (), _lead(block), found))
    runs = sum(len(block.runs) for block in blocks)
    tasks = list(dict.fromkeys(block.task for block in blocks))
    title = f"{tasks[0]}: {runs} run{'s' * (runs > 1)}" if len(tasks) == 1 else f"{runs} runs on {len(tasks)} tasks"
    if len(sections) == 1:
        write_page(path, title, sections[0].lead, sections[0].sections)
    else:
        write_page(path, title, f"Early-exit runs on {', '.join(tasks)}.", sections)


def comparison_of(block: TaskGroup, speedups: Sequence[float]) -> Comparison | None:
    """The paired comparison of a block's runs that have a recorded pass; None where none has."""
    runs = [tested for run in block.shown if (tested := run.comparable) is not None]
    return compare_runs(runs, speedups) if runs else None


def _lead(block: TaskGroup) -> str:
    shown, waiting = block.shown, len(block.untested)
    if not shown:
        return f"{waiting} run{'s' * (waiting > 1)}, not tested yet."
    tested = shown[0].tested
    first = f"{metric_title(tested['metric'])} on {tested.get('samples', 0):,} rows of the split {tested.get('split')}."
    return first + (f" {waiting} of {len(block.runs)} runs not tested yet." if waiting else "")


def _sections(
    block: TaskGroup, lines: Sequence[SeedGroup], speedups: Sequence[float], policy: str | None
) -> list[Section]:
    comparison = comparison_of(block, speedups)
    tested = [line for line in lines if line.tested]
    found = []
    if tested:
        found.append(Section("Runs", run_table(block, lines, comparison)))
    if block.untested:
        found.append(untested_section(block, lines))
    if tested:
        metric = str(block.shown[0].tested["metric"])
        found += [
            Section(f"{metric_title(metric)} against speed", [_curves(tested, metric, policy)]),
            Section("Each exit alone", [_exits(tested, metric)]),
        ]
        leaving = leaving_chart(tested)
        if leaving is not None:
            words = (
                "At the thresholds that validation data gave for a speed-up by layers (the buttons), with the policy "
                "of the table. A missing bar: no such threshold is stored."
            )
            found.append(Section("Where rows leave", [Figure(leaving, words)]))
        hard = difficulty_charts(tested, metric)
        if hard:
            words = "Rows of known difficulty, at each run's own threshold; means over seeds."
            found.append(Section("Easy and hard rows", [Grid([Figure(chart) for chart in hard], 420), Note(words)]))
    found += _curriculum(lines)
    metric = str(block.shown[0].tested["metric"]) if tested else _logged_metric(block)
    training = training_chart(lines, metric)
    if training is not None:
        words = "One line a run; of many points at most 100 are shown. From metrics.csv."
        found.append(Section("Training", [Figure(training, words)]))
    if len(block.runs) > 1:
        found.append(settings_section(block, lines))
    if comparison is not None and comparison.paired:
        found.append(paired_section(block, comparison))
    return found


def _curves(lines: Sequence[SeedGroup], metric: str, policy: str | None) -> Figure:
    choices = list(CHOICES) if policy is None else [policy]
    choices = [
        choice
        for number, choice in enumerate(choices)
        if number == 0
        or any(
            run.policy_of(choice) != run.policy and run.policy_of(choice) in run.points
            for line in lines
            for run in line.tested
        )
    ]
    plain = {round(float(run.tested["plain_gflops"]), 6) for line in lines for run in line.tested}
    whose = "the dearest run's plain model" if len(plain) > 1 else "the plain model"
    against = f"{whose} (all layers, last head alone: {reference_gflops(lines):.3g} GFLOPs a row)"
    words = [
        f"Lines: all thresholds of a policy; up and right is better. Speed-ups count against {against}.",
        "Markers with a white edge: thresholds chosen on validation data.",
        band_words([len(line.tested) for line in lines]),
    ]
    if len(choices) > 1:
        words.append(
            "Buttons on the left: each run's own rule, plain entropy, or the rule that was best on validation data."
        )
    return Figure(curve_chart(lines, metric, choices), " ".join(word for word in words if word))


def _exits(lines: Sequence[SeedGroup], metric: str) -> Figure:
    words = "All rows leave at the same exit; no policy. " + band_words([len(line.tested) for line in lines])
    return Figure(exit_chart(lines, metric), words.replace("bands", "whiskers").strip())


def _curriculum(lines: Sequence[SeedGroup]) -> list[Section]:
    charts = curriculum_charts(lines)
    parts: list[Part] = [Grid([Figure(chart) for chart in charts], 420)] if charts else []
    if charts:
        words = "What each epoch shows. Dotted: between these difficulties lie the middle 80 % of all training rows."
        parts.append(Note(words))
    for line in lines:
        header, rows = samples_of(line.runs[0].folder)
        if header:
            number = line.runs[0].number
            words = f"{line.name}, run {number}: the easiest and hardest training rows of the last epoch."
            parts.append(Table(header, [[_number_or_text(cell) for cell in row] for row in rows], words))
    return [Section("Curriculum", parts)] if parts else []


def _number_or_text(text: str) -> Cell:
    """A cell of somebody's CSV, sorted as a number where it is one."""
    try:
        return Cell(text, float(text))
    except ValueError:
        return Cell(text)


def _logged_metric(block: TaskGroup) -> str:
    """The main metric of runs without a test: what their validation logged of each exit."""
    names = [name.rpartition("/")[2] for run in block.runs for name in last_validation(run) if "exit_" in name]
    return names[0] if names else "acc"
