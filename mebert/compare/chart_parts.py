"""What charts have in common: titles, buttons, rounded numbers, wrapped names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mebert.compare.band import Band
from mebert.page import plain
from mebert.report.plots import METRIC_TITLES

__all__ = ["ends_words", "menu", "metric_title", "rounded", "wrapped"]

WRAP = 22


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


def wrapped(name: str) -> str:
    """A name in lines of about 22 characters, so that a phone has room for the bars."""
    lines = [""]
    for word in name.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= WRAP:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(plain(line) for line in lines)


def ends_words(band: Band, at: int) -> str:
    """Both ends of a band at a place, in brackets; empty without a band."""
    return (
        ""
        if band.low is None or band.high is None
        else f" ({band.low[at]:.4f} to {band.high[at]:.4f}, {band.seeds} seeds)"
    )
