"""The page: tables and charts of all runs, task by task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mebert.commands.compare import training
from mebert.commands.compare.band import band_caption
from mebert.commands.compare.chart_parts import metric_title
from mebert.commands.compare.class_section import class_section
from mebert.commands.compare.curve_chart import CHOICES, curve_chart, reference_gflops
from mebert.commands.compare.exit_charts import exit_chart, exit_share_chart
from mebert.commands.compare.page_tables import paired_section, run_table, settings_section, untested_section
from mebert.commands.compare.paired import compare_runs
from mebert.commands.compare.seed_groups import SeedGroup, TaskGroup, seed_groups
from mebert.report.page import Cell, Figure, Grid, Note, Part, Section, Table, write_page


def write_comparison_page(
    groups: Sequence[TaskGroup], speedups: Sequence[float], policy: str | None, path: Path
) -> None:
    """Write the page.

    Paired tests are at `speedups` by layers; without a policy the reader chooses between own, entropy and the best.
    """
    sections = []
    for group, lines in zip(groups, seed_groups(groups), strict=True):
        several = sum(other.task == group.task for other in groups) > 1
        rows = f" ({_samples(group):,} test rows)" if several and group.tested else ""
        parts = _sections(group, lines, speedups, policy)
        sections.append(Section(f"{group.task}{rows}", (), _lead(group), parts))
    runs = _plural(sum(len(group.runs) for group in groups))
    tasks = list(dict.fromkeys(group.task for group in groups))
    title = f"{tasks[0]}: {runs}" if len(tasks) == 1 else f"{runs} on {len(tasks)} tasks"
    if len(sections) == 1:
        write_page(path, title, sections[0].lead, sections[0].sections)
    else:
        write_page(path, title, f"Early-exit runs on {', '.join(tasks)}.", sections)


def _samples(group: TaskGroup) -> int:
    return int(group.tested[0].evaluation.get("samples", 0))


def _plural(count: int) -> str:
    return f"{count} run{'s' * (count > 1)}"


def _lead(group: TaskGroup) -> str:
    waiting = len(group.untested)
    if not group.tested:
        return f"{_plural(waiting)}, not tested yet."
    run = group.tested[0]
    lead = f"{metric_title(run.metric)} on {_samples(group):,} rows of the split {run.evaluation.get('split')}."
    return lead + (f" {waiting} of {len(group.runs)} runs not tested yet." if waiting else "")


def _sections(
    group: TaskGroup, lines: Sequence[SeedGroup], speedups: Sequence[float], policy: str | None
) -> list[Section]:
    recorded = [run for run in group.tested if run.record is not None]
    comparison = compare_runs(recorded, speedups) if recorded else None
    tested = [line for line in lines if line.tested]
    metric = group.tested[0].metric if tested else _logged_metric(group)
    found = []
    if tested:
        found.append(Section("Runs", run_table(group, lines, comparison)))
    if group.untested:
        found.append(untested_section(group, lines))
    if tested:
        found.append(Section(f"{metric_title(metric)} against speed", [_curves(tested, metric, policy)]))
        words = "All rows leave at the same exit; no policy. " + band_caption([len(line.tested) for line in tested])
        exits = Figure(exit_chart(tested, metric), words.replace("bands", "whiskers").strip())
        found.append(Section("Each exit alone", [exits]))
        if (shares := exit_share_chart(tested)) is not None:
            words = (
                "At the thresholds that validation data gave for a speed-up by layers (the buttons), with the policy "
                "of the table. A missing bar: no such threshold is stored."
            )
            found.append(Section("Where rows leave", [Figure(shares, words)]))
        if (classes := class_section(group.tested)) is not None:
            found.append(classes)
        if hard := training.difficulty_charts(tested, metric):
            words = "Rows of known difficulty, at each run's own threshold; means over seeds."
            found.append(Section("Easy and hard rows", [Grid([Figure(chart) for chart in hard], 420), Note(words)]))
    found += _curriculum(lines)
    if (logged := training.training_chart(lines, metric)) is not None:
        words = "One line a run; of many points at most 100 are shown. From metrics.csv."
        found.append(Section("Training", [Figure(logged, words)]))
    if len(group.runs) > 1:
        found.append(settings_section(group, lines))
    if comparison is not None and comparison.paired:
        found.append(paired_section(comparison))
    return found


def _curves(lines: Sequence[SeedGroup], metric: str, policy: str | None) -> Figure:
    runs = [run for line in lines for run in line.tested]
    first, *others = list(CHOICES) if policy is None else [policy]
    # Of the others those that are another policy than some run's own, with a curve.
    differ = {c for c in others for run in runs if run.policy_of(c) != run.policy and run.policy_of(c) in run.rows}
    choices = [first, *(choice for choice in others if choice in differ)]
    several = len({round(float(run.evaluation["plain_gflops"]), 6) for run in runs}) > 1
    whose = "the most expensive run's plain model" if several else "the plain model"
    against = f"{whose} (all layers, last head alone: {reference_gflops(lines):.3g} GFLOPs a row)"
    words = [
        f"Lines: all thresholds of a policy; up and right is better. Speed-ups count against {against}.",
        "Markers with a white edge: thresholds chosen on validation data.",
        band_caption([len(line.tested) for line in lines]),
    ]
    if len(choices) > 1:
        words.append(
            "Buttons on the left: each run's own rule, plain entropy, or the rule that was best on validation data."
        )
    return Figure(curve_chart(lines, metric, choices), " ".join(filter(None, words)))


def _curriculum(lines: Sequence[SeedGroup]) -> list[Section]:
    parts: list[Part] = []
    if charts := training.curriculum_charts(lines):
        words = "What each epoch shows. Dotted: between these difficulties lie the middle 80 % of all training rows."
        parts = [Grid([Figure(chart) for chart in charts], 420), Note(words)]
    for line in lines:
        header, rows = training.samples_of(line.runs[0].folder)
        if header:
            which = f"{line.name}, run {line.runs[0].number}"
            words = f"{which}: the easiest and hardest training rows of the last epoch."
            parts.append(Table(header, [[_number_or_text(cell) for cell in row] for row in rows], words))
    return [Section("Curriculum", parts)] if parts else []


def _number_or_text(text: str) -> Cell:
    """A cell of a user's CSV, sorted as a number if it is one."""
    try:
        return Cell(text, float(text))
    except ValueError:
        return Cell(text)


def _logged_metric(group: TaskGroup) -> str:
    """The main metric of runs without a test: the first one that their validation logged of an exit."""
    names = [name.rpartition("/")[2] for run in group.runs for name in training.last_validation(run) if "exit_" in name]
    return names[0] if names else "acc"
