"""What charts have in common: titles, buttons, rounded numbers, wrapped names."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from mebert.commands.compare.band import Band
from mebert.report.page import plain
from mebert.report.plots import METRIC_TITLES

__all__ = ["ends_words", "menu", "metric_title", "rounded", "wrapped"]


def metric_title(metric: str) -> str:
    """The name of a metric for an axis."""
    title = METRIC_TITLES.get(metric, metric)
    return title[:1].upper() + title[1:]


def menu(x: float, y: float, buttons: Sequence[tuple[str, str, list[Any]]]) -> dict[str, Any]:
    """A row of buttons above the chart: (what it says, plotly's method, its arguments)."""
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
    """Five digits: what a chart can show, in a third of the page's bytes."""
    return [float(f"{value:.5g}") for value in values]


def wrapped(name: str, width: int) -> str:
    """A name for a chart, in lines of at most so many characters."""
    return "<br>".join(plain(line) for line in textwrap.wrap(name, width))


def ends_words(band: Band, at: int) -> str:
    """Both ends of a band at a place, in brackets; empty without a band."""
    return (
        ""
        if band.low is None or band.high is None
        else f" ({band.low[at]:.4f} to {band.high[at]:.4f}, {band.seeds} seeds)"
    )
