"""What the charts share: lines in the style of a seed group, buttons, rounded numbers, wrapped names."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from mebert.commands.compare.seed_groups import SeedGroup
from mebert.report import plots
from mebert.report.page import plain

HEAD = 44  # characters in a line of a name under the pointer


def metric_title(metric: str) -> str:
    """The name of a metric for an axis."""
    title = plots.metric_title(metric)
    return title[:1].upper() + title[1:]


def add_line(
    figure: Any, group: SeedGroup, x: Sequence[Any], y: Sequence[float] | np.ndarray, size: int = 7, **more: Any
) -> None:
    """Add a line in a group's style through x and y, (X,) each; `more` takes precedence in `add_scatter`."""
    own: dict[str, Any] = {"name": plain(group.name), "mode": "lines+markers"}
    own["line"] = {"color": group.style.colour, "dash": group.style.dash, "width": 2}
    own["marker"] = {"symbol": group.style.symbol, "size": size}
    figure.add_scatter(x=x, y=rounded(y), **own | more)


def menu(x: float, y: float, buttons: Sequence[tuple[str, str, list[Any]]]) -> dict[str, Any]:
    """A row of buttons above a chart: (label, plotly's method, its arguments) each."""
    return {
        "type": "buttons",
        "direction": "right",
        "x": x,
        "xanchor": "left" if x < 0.5 else "right",
        "y": y,
        "yanchor": "bottom",
        "pad": {"b": 8},
        "showactive": True,
        "buttons": [{"label": label, "method": method, "args": args} for label, method, args in buttons],
    }


def rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    """Values to five digits, which is what a chart can show, in a third of the page's bytes."""
    return [float(f"{value:.5g}") for value in values]


def wrapped(name: str, width: int) -> str:
    """A name for a chart, in lines of at most `width` characters."""
    return "<br>".join(plain(line) for line in textwrap.wrap(name, width))
