"""The curves as a picture for a paper: a row a task, the metric against speed and over the exits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mebert.commands.compare.band import band_words
from mebert.commands.compare.chart_parts import metric_title
from mebert.commands.compare.curve_chart import reference_gflops, speed_ticks
from mebert.commands.compare.seed_groups import SeedGroup, lines_of
from mebert.commands.compare.task_groups import TaskGroup
from mebert.errors import UserError

__all__ = ["save_picture"]

WIDTH = 10.0  # inches
DPI = 200
LETTERS = 120  # of the legend, side by side


def save_picture(blocks: Sequence[TaskGroup], path: Path) -> None:
    """Write a PNG, PDF or SVG, by the name's ending; colours and dashes are those of the page.

    Args:
        blocks: Runs by task; those that were not tested are left out.
        path: The file; its folder is made.

    Raises:
        UserError: No run was tested.
    """
    # Not pyplot: a figure on its own needs no display and leaves no global state behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    rows = [
        (block, [line for line in lines if line.tested]) for block, lines in zip(blocks, lines_of(blocks), strict=True)
    ]
    rows = [(block, lines) for block, lines in rows if lines]
    if not rows:
        raise UserError("no run was tested, so that there is nothing to draw; --out report.html shows their training")
    names = list(dict.fromkeys(line.name for _, lines in rows for line in lines))
    columns = max(1, min(len(names), int(LETTERS / (max(map(len, names)) + 8))))
    height = 3.7 * len(rows) + 0.2 * math.ceil(len(names) / columns) + 0.4
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 2, squeeze=False, width_ratios=[3, 2])
    for (block, lines), (left, right) in zip(rows, axes, strict=True):
        metric = str(block.shown[0].tested["metric"])
        _draw_curves(left, lines)
        _draw_exits(right, lines, metric)
        for place in (left, right):
            place.set_ylabel(metric_title(metric))
            place.grid(alpha=0.3)
            place.spines[["top", "right"]].set_visible(False)
        left.set_title(f"{block.task}: all thresholds, {block.shown[0].tested.get('samples', 0):,} rows", fontsize=10)
        right.set_title("all rows at one exit", fontsize=10)
    looks = {line.name: line.style for _, lines in rows for line in lines}
    words = band_words([len(line.tested) for _, lines in rows for line in lines])
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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_curves(axes: Any, lines: Sequence[SeedGroup]) -> None:
    reference, highest = reference_gflops(lines), 1.0
    for line in lines:
        look = {"color": line.style.colour, "zorder": 3}
        series = line.series("own")
        if series is None:
            continue
        speeds = reference / series.gflops
        highest = max(highest, float(speeds.max()))
        if series.metric.low is not None and series.metric.high is not None:
            axes.fill_between(
                speeds, series.metric.low, series.metric.high, color=line.style.colour, alpha=0.18, lw=0, zorder=2
            )
        style, marker = (line.style.linestyle, "") if len(speeds) > 1 else ("", line.style.marker)
        axes.plot(speeds, series.metric.mean, ls=style, marker=marker, ms=7, lw=1.8, **look)
        points = line.marked("own")
        xs, ys = [reference / point.gflops for point in points], [point.metric for point in points]
        axes.plot(xs, ys, line.style.marker, ms=6.5, mec="white", mew=0.8, **look | {"zorder": 4})
    axes.set_xscale("log")
    ticks = speed_ticks(highest)
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("Speed-up by FLOPs (log scale)")


def _draw_exits(axes: Any, lines: Sequence[SeedGroup], metric: str) -> None:
    for line in lines:
        band, layers = line.at_exits(metric), line.exit_layers
        if band.low is not None and band.high is not None:
            axes.fill_between(layers, band.low, band.high, color=line.style.colour, alpha=0.18, lw=0, zorder=2)
        axes.plot(
            layers,
            band.mean,
            ls=line.style.linestyle,
            marker=line.style.marker,
            ms=4.5,
            lw=1.5,
            color=line.style.colour,
        )
    deepest = max(line.exit_layers[-1] for line in lines)
    step = 1 if deepest <= 12 else 2
    axes.set_xticks(range(step, deepest + 1, step))
    axes.set_xlabel("Layer of the exit")
