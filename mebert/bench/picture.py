"""Samples per second as bars: one panel a precision, one group a batch size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mebert.bench.results import Row

__all__ = ["save_bars"]

# Grey: without exits. Colours that the colour-blind can tell apart.
CUT = "HF layers"  # stands for "HF 3 layers" and the like: the first layers alone
COLOURS = {"HF": "#c8c8c8", "HF padded": "#e4e4e4", "HF sorted": "#9a9a9a", CUT: "#e7c894", "plain": "#5f5f5f"}
COLOURS |= {"full": "#b3cde3", "shrink": "#1f77b4", "refill": "#d95f02", "predicted": "#2ca02c"}


def save_bars(rows: Sequence[Row], path: Path, title: str) -> None:
    """Write a PNG.

    Args:
        rows: All rows; of the engines those of the first policy at the smallest speed-up are drawn.
        path: The file.
        title: Its first line.
    """
    # Not pyplot: a figure on its own needs no display and leaves no global state behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

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
    handles, names = [], []
    for axes in panels:  # a baseline may be shown in one panel only
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            if name not in names:
                handles.append(handle)
                names.append(name)
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 9), fontsize=9)
    figure.savefig(path)


def _shown(rows: Sequence[Row]) -> tuple[list[Row], float | None]:
    policy = next((row.policy for row in rows if row.policy), "")
    targets = [row.target for row in rows if row.target is not None]
    target = min(targets, default=None)
    # Of the cut models the deepest one is as fast as the smallest speed-up.
    deepest = max((row.mean_layers for row in rows if _kind(row.name) == CUT), default=0.0)
    shown = [row for row in rows if row.policy in ("", policy) and row.target in (None, target)]
    return [row for row in shown if _kind(row.name) != CUT or row.mean_layers == deepest], target


def _kind(name: str) -> str:
    return name if name in COLOURS else CUT
