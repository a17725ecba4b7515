"""The curves as a picture for a paper: for each task the metric against speed, and over the exits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mebert.commands.compare.band import Band, band_caption
from mebert.commands.compare.chart_parts import metric_title
from mebert.commands.compare.curve_chart import reference_gflops, speed_ticks
from mebert.commands.compare.seed_groups import SeedGroup, TaskGroup, seed_groups
from mebert.errors import UserError
from mebert.report.plots import save_figure

WIDTH = 10.0  # inches
DPI = 200
LETTERS = 120  # of the legend, side by side


def save_picture(groups: Sequence[TaskGroup], path: Path) -> None:
    """Write a PNG, PDF or SVG, by the file's suffix; colours and dashes are those of the page."""
    # Not pyplot: a figure on its own needs no display and leaves no global state behind.
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tested = [[line for line in lines if line.tested] for lines in seed_groups(groups)]
    rows = [(group, lines) for group, lines in zip(groups, tested, strict=True) if lines]
    if not rows:
        raise UserError("no run was tested, so that there is nothing to draw; --out report.html shows their training")
    looks = {line.name: line.style for _, lines in rows for line in lines}
    columns = max(1, min(len(looks), int(LETTERS / (max(map(len, looks)) + 8))))
    height = 3.7 * len(rows) + 0.2 * math.ceil(len(looks) / columns) + 0.4
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(rows), 2, squeeze=False, width_ratios=[3, 2])
    for (group, lines), (left, right) in zip(rows, axes, strict=True):
        first = group.tested[0]
        _draw_curves(left, lines)
        _draw_exits(right, lines, first.metric)
        for place in (left, right):
            place.set_ylabel(metric_title(first.metric))
            place.grid(alpha=0.3)
            place.spines[["top", "right"]].set_visible(False)
        left.set_title(f"{group.task}: all thresholds, {first.evaluation.get('samples', 0):,} rows", fontsize=10)
        right.set_title("all rows at one exit", fontsize=10)
    words = band_caption([len(line.tested) for _, lines in rows for line in lines])
    legend = figure.legend(
        [Line2D([], [], color=s.colour, ls=s.linestyle, marker=s.marker, ms=4.5, lw=1.8) for s in looks.values()],
        list(looks),
        fontsize=8.5,
        loc="outside lower center",
        ncols=columns,
        handlelength=4,  # so that dashes are seen beside the marker
        frameon=False,
        title=f"Markers: thresholds chosen on validation data. {words}".strip(),
        title_fontsize=7.5,
    )
    legend.get_title().set_color("#555555")
    save_figure(figure, path)


def _draw_curves(axes: Any, lines: Sequence[SeedGroup]) -> None:
    reference, highest = reference_gflops(lines), 1.0
    for line in lines:
        style, series = line.style, line.series("own")
        if series is None:
            continue
        speeds = reference / series.gflops
        highest = max(highest, float(speeds.max()))
        _draw_band(axes, speeds, series.metric, style.colour)
        dash, marker = (style.linestyle, "") if len(speeds) > 1 else ("", style.marker)
        axes.plot(speeds, series.metric.mean, ls=dash, marker=marker, ms=7, lw=1.8, color=style.colour, zorder=3)
        points = line.operating_points("own")
        xs, ys = [reference / point.gflops for point in points], [point.metric for point in points]
        axes.plot(xs, ys, style.marker, ms=6.5, mec="white", mew=0.8, color=style.colour, zorder=4)
    axes.set_xscale("log")
    ticks = speed_ticks(highest)
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("Speed-up by FLOPs (log scale)")


def _draw_exits(axes: Any, lines: Sequence[SeedGroup], metric: str) -> None:
    for line in lines:
        style, band, layers = line.style, line.at_exits(metric), line.exit_layers
        _draw_band(axes, layers, band, style.colour)
        axes.plot(layers, band.mean, ls=style.linestyle, marker=style.marker, ms=4.5, lw=1.5, color=style.colour)
    deepest = max(line.exit_layers[-1] for line in lines)
    step = 1 if deepest <= 12 else 2
    axes.set_xticks(range(step, deepest + 1, step))
    axes.set_xlabel("Layer of the exit")


def _draw_band(axes: Any, xs: Any, band: Band, colour: str) -> None:
    if band.low is not None and band.high is not None:
        axes.fill_between(xs, band.low, band.high, color=colour, alpha=0.18, lw=0, zorder=2)
