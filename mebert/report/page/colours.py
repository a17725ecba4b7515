"""Line styles that a colour-blind reader can tell apart, the same on pages and in pictures."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#BDAE00")
"""Okabe and Ito (2008), in an order that keeps neighbours apart; grey replaces black, which a dark page hides, and the
yellow is darker, to be seen on white."""

# The same order in plotly's and in matplotlib's names.
DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"), ("dashdot", "-."))
MARKERS = (
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("triangle-down", "v"),
    ("cross", "P"),
    ("x", "X"),
    ("star", "*"),
)


@dataclass(frozen=True)
class Style:
    """How one line is drawn."""

    colour: str  # `#rrggbb`
    dash: str  # plotly's name
    linestyle: str  # matplotlib's name
    symbol: str  # plotly's name of its markers
    marker: str  # matplotlib's name

    def rgba(self, alpha: float) -> str:
        """The colour with transparency, for plotly."""
        red, green, blue = (int(self.colour[at : at + 2], 16) for at in (1, 3, 5))
        return f"rgba({red}, {green}, {blue}, {alpha:g})"


def styles(keys: Iterable[K]) -> dict[K, Style]:
    """A style for each key, in their order: eight colours, then the same colours dashed.

    >>> found = styles(["joint", "de3", "joint"])
    >>> list(found), found["de3"].colour
    (['joint', 'de3'], '#D55E00')
    """
    found = {}
    for number, key in enumerate(dict.fromkeys(keys)):
        dash = DASHES[number // len(PALETTE) % len(DASHES)]
        marker = MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]  # not the colour's old one again
        found[key] = Style(PALETTE[number % len(PALETTE)], *dash, *marker)
    return found
