"""The few lines with which `fit`, `validate` and `test` end: the full model, and a row an operating point."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mebert.metrics.curve import CurvePoint
from mebert.report.class_tables import hardest_hit
from mebert.report.evaluation import Evaluation
from mebert.report.layout import report_table

MOST_POINTS = 6
NO_WALL_CLOCK = "-: rounds of the clock vary by more than the speed-ups differ."


def summary_table(evaluation: Evaluation) -> Table:
    """The full model, the point in use, and the module's policy at the thresholds for each target speed-up."""
    measured = bool(evaluation.wall_setting)
    points = evaluation.points.get(evaluation.policy, [])
    caption = []
    if (words := hardest_hit(evaluation)) is not None:
        caption.append(words)
    if len(points) > MOST_POINTS:
        caption.append(f"{len(points) - MOST_POINTS} more in report.md.")
    if measured and any(point.speedup_wall is None for point in _shown(evaluation)):
        caption.append(NO_WALL_CLOCK)
    columns = [evaluation.metric, "95 % interval", "drop", "speed-up FLOPs", *(["wall clock"] if measured else [])]
    table = report_table(
        f"Operating points ({evaluation.split}, {evaluation.samples:,} samples)",
        ["point"],
        columns,
        "\n".join(caption) or None,
    )
    full = evaluation.full
    table.add_row("full model", f"{full.metric:.4f}", _interval(full), *[""] * (len(columns) - 2))
    for point in _shown(evaluation):
        name = "in use" if point is evaluation.current else f"{evaluation.policy} {point.target:g}x"
        cells = [name, f"{point.metric:.4f}", _interval(point), f"{full.metric - point.metric:.4f}"]
        table.add_row(*cells, f"{point.speedup_flops:.2f}x", *([wall_clock(point)] if measured else []))
    return table


def one_line(evaluation: Evaluation) -> str:
    """A further split, such as MNLI's mismatched one, in one line."""
    metric, full, current = evaluation.metric, evaluation.full, evaluation.current
    words = f"{evaluation.split}, {evaluation.samples:,} samples: {metric} {full.metric:.4f}"
    if current is None:
        return words
    return f"{words}, in use {current.metric:.4f} at {current.speedup_flops:.2f}x by FLOPs"


def wall_clock(point: CurvePoint) -> str:
    """A wall-clock speed-up with half the range of its rounds; "-" where they do not tell it apart."""
    if point.speedup_wall_range is None:
        return ""
    low, high = point.speedup_wall_range
    return "-" if point.speedup_wall is None else f"{point.speedup_wall:.2f}x ±{(high - low) / 2:.2f}"


def _shown(evaluation: Evaluation) -> Sequence[CurvePoint]:
    chosen = evaluation.points.get(evaluation.policy, [])[:MOST_POINTS]
    return chosen if evaluation.current is None else [evaluation.current, *chosen]


def _interval(point: CurvePoint) -> str:
    return "" if point.interval is None else "{:.4f}-{:.4f}".format(*point.interval)
