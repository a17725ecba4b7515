"""One picture a task: the metric against the speed-up, a line for each recipe."""

from __future__ import annotations

from pathlib import Path

from mebert.commands.study.results import TaskResult
from mebert.report.plots import METRIC_TITLES

__all__ = ["save_task_plot"]

STYLES = ("-", "--", ":")


def save_task_plot(result: TaskResult, path: Path) -> None:
    """Write a PNG: every recipe with its best policy, mean over seeds, and single exits as markers.

    Args:
        result: The task.
        path: The file.
    """
    # Not pyplot: a figure on its own needs no display and leaves no global state behind.
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    curves = [recipe for recipe in result.recipes if not recipe.single]
    for number, recipe in enumerate(curves):
        xs, ys = zip(*recipe.figures["best"].curve, strict=True)
        style, colour = STYLES[number // len(colours) % len(STYLES)], colours[number % len(colours)]
        axes.plot(xs, ys, style, color=colour, lw=1.6, label=recipe.recipe, zorder=3)
    single = [recipe for recipe in result.recipes if recipe.single]
    points = [recipe.figures["best"].curve[0] for recipe in single]
    axes.plot(*zip(*points, strict=True), "kD", ms=6, zorder=4, label="one exit alone") if points else None
    for recipe, at in zip(single, points, strict=True):
        axes.annotate(recipe.recipe, at, xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    highest = max(x for recipe in result.recipes for x, _ in recipe.figures["best"].curve)
    ticks = [t for t in (1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32) if t <= highest * 1.01]
    axes.set_xticks(ticks, [f"{t:g}x" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("speed-up by layers (log scale)")
    axes.set_ylabel(METRIC_TITLES.get(result.metric, result.metric))
    axes.set_title(f"{result.task}: each recipe with its best policy, {result.rows:,} test rows", fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=5)
    figure.savefig(path)
