"""The exits' spaces as a picture: one panel for each exit."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.commands.inspect.inspection import STAR, UNGROUPED, Inspection
from mebert.commands.inspect.spaces import ExitSpace
from mebert.errors import UserError
from mebert.report.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_COLUMNS = 3


def save_picture(found: Inspection, path: Path) -> None:
    """Write the panels (PNG, or by the file's ending .pdf or .svg)."""
    # Not pyplot: a figure on its own needs no display and leaves no global state behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not found.spaces:
        raise UserError("there is nothing to draw: give text, or rows by task or file")
    count = len(found.spaces)
    columns = min(count, MAX_COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(3.7 * columns + 0.3, 3.6 * rows + 1.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    coloured: Any = None
    for axes, space in zip(panels, found.spaces, strict=False):
        coloured = _panel(axes, found, space) or coloured
    for axes in panels[count:]:
        axes.set_axis_off()
    if coloured is not None:
        figure.colorbar(coloured, ax=panels, label=found.label_names[0], shrink=0.6)
    titles = (_plain(part) for part in (found.opened.name, found.heading))
    lines = [line for part in titles for line in textwrap.wrap(part, 36 * columns)]
    figure.suptitle("\n".join(lines), fontsize=11)
    shown: list[tuple[str, dict[str, Any]]] = []
    shown += [(s.marker, {"color": s.colour, "label": _plain(name)}) for name, s in found.class_legend.items()]
    if found.multi_label and found.samples is not None:
        shown.append(("o", {"color": UNGROUPED, "label": "several labels, or none"}))
    if found.mark_kinds:
        shown.append(("X", {"color": "#666666", "ms": 10, "label": found.mark_kinds}))
    if found.traces:
        shown.append(("*", {"color": STAR, "mec": "black", "ms": 12, "label": "inspected text"}))
    if shown:
        handles = [Line2D([], [], marker=marker, ls="none", **looks) for marker, looks in shown]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 2 + columns), fontsize=9)
    save_figure(figure, path)


def _panel(axes: Axes, found: Inspection, space: ExitSpace) -> Any:
    """Draw one exit; returns what the colour bar needs, in a regression."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="white")]  # a number is legible wherever it falls
    coloured, samples, classes = None, found.samples, found.class_styles
    if samples is not None and found.regression:
        x, y = space.points.T.numpy()
        coloured = axes.scatter(x, y, c=samples.labels.numpy(), cmap="cividis", s=14, alpha=0.75, lw=0)
    elif samples is not None:
        if found.multi_label:
            axes.plot(*space.points[samples.groups < 0].T, "o", color=UNGROUPED, ms=4, mew=0, alpha=0.55, ls="none")
        for label, style in enumerate(classes):
            own = space.points[samples.groups == label]
            axes.plot(*own.T, style.marker, color=style.colour, ms=4, mew=0, alpha=0.55, ls="none")
    for label, mark in zip(space.mark_labels, space.marks.tolist(), strict=True):
        axes.plot(*mark, "X", color=classes[label].colour, ms=13, mec="black", mew=1.0, ls="none", zorder=4)
    for number, place in enumerate(space.texts.tolist(), 1):
        axes.plot(*place, "*", color=STAR, ms=14, mec="black", mew=0.9, ls="none", zorder=5)
        axes.annotate(
            str(number), place, xytext=(6, 6), textcoords="offset points", fontsize=10, zorder=6, path_effects=halo
        )
    axes.set_title(space.title, fontsize=9)
    across, up = space.axis_titles
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.margins(0.08)
    if not space.stretched:
        axes.set_aspect("equal", adjustable="datalim")  # the same scale in both directions
    return coloured


def _plain(text: str) -> str:
    """A text that matplotlib shows literally: no mathematics, and no name that hides it from the legend."""
    shown = text.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
