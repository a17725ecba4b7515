"""The picture of a measurement: samples per second as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mebert.commands.bench.results import Row

CUT = "HF layers"  # any "HF k layers"
# Baselines in greys, engines in colours that are distinct for colour-blind readers.
COLOURS = {"HF": "#c8c8c8", "HF padded": "#e4e4e4", "HF sorted": "#9a9a9a", CUT: "#e7c894", "plain": "#5f5f5f"}
COLOURS |= {"full": "#b3cde3", "shrink": "#1f77b4", "refill": "#d95f02", "predicted": "#2ca02c"}


def save_bars(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a PNG of the baselines and, of the engines, the first policy at the smallest speed-up."""
    shown, target = _shown(rows)
    precisions = list(dict.fromkeys(row.precision for row in shown))
    sizes = sorted({row.batch_size for row in shown})
    labels = sorted({row.name for row in shown}, key=lambda name: list(COLOURS).index(_kind(name)))
    figure = Figure(figsize=(11, 1.0 + 2.9 * len(precisions)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(precisions), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    width = 0.84 / len(labels)
    for axes, precision in zip(panels, precisions, strict=True):
        found = {(row.batch_size, row.name): row for row in shown if row.precision == precision}
        for number, label in enumerate(labels):
            here = [(place, found[size, label]) for place, size in enumerate(sizes) if (size, label) in found]
            xs = [place + (number - (len(labels) - 1) / 2) * width for place, _ in here]
            colour = COLOURS[_kind(label)]
            axes.bar(xs, [row.samples_per_second for _, row in here], width * 0.94, color=colour, label=label)
        axes.set_ylabel(f"{precision}\nsamples/s")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    panels[-1].set_xticks(range(len(sizes)), [f"batch {size}" for size in sizes])
    second = f"engines at {target:g}x fewer FLOPs; grey: no exits" if target is not None else "grey: no exits"
    figure.suptitle(f"{title}\n{second}", fontsize=11)
    legend: dict[str, Any] = {}
    for axes in panels:  # a baseline may be in one panel only
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            legend.setdefault(name, handle)
    figure.legend([*legend.values()], [*legend], loc="outside lower center", ncols=min(len(legend), 9), fontsize=9)
    figure.savefig(path)


def _shown(rows: Sequence[Row]) -> tuple[list[Row], float | None]:
    policy = next((row.policy for row in rows if row.policy), "")
    targets = [row.target for row in rows if row.target is not None]
    target = min(targets, default=None)
    # Of the models with fewer layers the deepest one is as fast as the smallest speed-up.
    deepest = max((row.mean_layers for row in rows if _kind(row.name) == CUT), default=0.0)
    shown = [row for row in rows if row.policy in ("", policy) and row.target in (None, target)]
    return [row for row in shown if _kind(row.name) != CUT or row.mean_layers == deepest], target


def _kind(name: str) -> str:
    return name if name in COLOURS else CUT
