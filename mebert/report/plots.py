"""The accuracy-speed curve as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mebert.storage.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

    from mebert.report.evaluation import Evaluation

METRIC_TITLES = {
    "acc": "accuracy",
    "f1": "F1",
    "f1_micro": "micro F1",
    "f1_macro": "macro F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "map": "mean average precision",
    "mrr": "mean reciprocal rank",
    "p_at_1": "precision at 1",
}
POLICY_TITLES = {"edr": "EDR (distance and entropy)", "dr": "DR (distance)", "max_prob": "max probability"}
COLOURS = ("#1f77b4", "#d95f02", "#2ca02c", "#9467bd")
TICKS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def metric_title(metric: str) -> str:
    """The name of a metric in words."""
    return METRIC_TITLES.get(metric, metric)


def label_axes(axes: Axes, fastest: float, metric: str, title: str) -> None:
    """A logarithmic axis of speed-ups up to the fastest one, the metric's name, a title and a grid."""
    axes.set_xscale("log")
    ticks = [tick for tick in TICKS if tick <= fastest * 1.01]
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("speed-up by layers (log scale)")
    axes.set_ylabel(metric_title(metric))
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)


def save_figure(figure: MatplotlibFigure, path: Path) -> None:
    """Write a picture, whole or not at all: PDF or SVG where the name says so, else a PNG."""
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, format={".pdf": "pdf", ".svg": "svg"}.get(path.suffix.lower(), "png"))


def save_curve(evaluation: Evaluation, path: Path, title: str) -> None:
    """Write a PNG: the main metric against the speed-up by layers.

    Lines are policies, stars their operating points, numbered dots the exits taken by all samples.
    """
    # Not pyplot: a figure on its own needs no display and leaves no global state behind.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, curve) in enumerate(evaluation.curves.items()):
        colour, line = COLOURS[number % len(COLOURS)], "--" if number else "-"
        chosen, label = evaluation.points.get(name, []), "_" if number else "threshold chosen on validation data"
        xs, ys = [p.speedup_layers for p in curve], [p.metric for p in curve]
        axes.plot(xs, ys, line, color=colour, lw=2, label=POLICY_TITLES.get(name, name), zorder=3)
        xs, ys = [p.speedup_layers for p in chosen], [p.metric for p in chosen]
        axes.plot(xs, ys, "*", color=colour, ms=13, mec="white", mew=0.8, zorder=5, label=label)
    xs, ys = [p.speedup_layers for p in evaluation.fixed], [p.metric for p in evaluation.fixed]
    axes.plot(xs, ys, "o", color="#666666", ms=5, zorder=2, label="all samples at one exit")
    for number, at in enumerate(zip(xs, ys, strict=True), start=1):
        axes.annotate(str(number), at, xytext=(0, -12), textcoords="offset points", ha="center", fontsize=8)
    label_axes(axes, max(xs), evaluation.metric, f"{title}\n{evaluation.split}, {evaluation.samples:,} samples")
    figure.legend(fontsize=9, loc="outside lower center", ncols=2)  # never over the curves
    save_figure(figure, path)
