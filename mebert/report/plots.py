"""The accuracy-speed curve as a picture."""

from __future__ import annotations

from pathlib import Path

from mebert.report.evaluation import Evaluation

__all__ = ["METRIC_TITLES", "save_curve"]

METRIC_TITLES = {
    "acc": "accuracy",
    "f1": "F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "map": "mean average precision",
    "mrr": "mean reciprocal rank",
    "p_at_1": "precision at 1",
}
POLICY_TITLES = {"edr": "EDR (distance and entropy)", "dr": "DR (distance)", "max_prob": "max probability"}


def save_curve(evaluation: Evaluation, path: Path, title: str) -> None:
    """Write a PNG: the main metric against the speed-up by layers.

    Lines are policies, stars their operating points, numbered dots the exits taken by all samples.

    Args:
        evaluation: What to draw.
        path: The file.
        title: Its first line; split and number of samples are added.
    """
    # Not pyplot: a figure on its own needs no display and leaves no global state behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = ["#1f77b4", "#d95f02", "#2ca02c", "#9467bd"]
    for number, (name, curve) in enumerate(evaluation.curves.items()):
        colour = colours[number % len(colours)]
        xs, ys = [p.speedup_layers for p in curve], [p.metric for p in curve]
        style = "-" if number == 0 else "--"
        axes.plot(xs, ys, style, color=colour, lw=2, label=POLICY_TITLES.get(name, name), zorder=3)
        chosen = evaluation.points.get(name, [])
        axes.plot(
            [p.speedup_layers for p in chosen],
            [p.metric for p in chosen],
            "*",
            color=colour,
            ms=13,
            mec="white",
            mew=0.8,
            zorder=5,
            label="_" if number else "threshold chosen on validation data",
        )
    fixed = evaluation.fixed
    axes.plot(
        [p.speedup_layers for p in fixed],
        [p.metric for p in fixed],
        "o",
        color="#666666",
        ms=5,
        zorder=2,
        label="all samples at one exit",
    )
    for e, point in enumerate(fixed):
        at = (point.speedup_layers, point.metric)
        axes.annotate(str(e + 1), at, xytext=(0, -12), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xscale("log")
    highest = max(p.speedup_layers for p in fixed)
    ticks = [t for t in (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32) if t <= highest * 1.01]
    axes.set_xticks(ticks, [f"{t:g}x" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("speed-up by layers (log scale)")
    axes.set_ylabel(METRIC_TITLES.get(evaluation.metric, evaluation.metric))
    axes.set_title(f"{title}\n{evaluation.split}, {evaluation.samples:,} samples", fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=9, loc="outside lower center", ncols=2)  # never over the curves
    figure.savefig(path)
