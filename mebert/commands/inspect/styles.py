"""Colours and marks that are the same in the terminal, in pictures and on pages."""

from __future__ import annotations

__all__ = ["GLYPHS", "STAR", "layer_colours"]

# Of ColorBrewer's YlGnBu (Brewer 2003) what shows on white, also to the colour-blind. Early exits are light.
STEPS = ("c7e9b4", "7fcdbb", "41b6c4", "1d91c0", "225ea8", "0c2c84")

STAR = "#F0E442"
"""Of inspected texts; drawn with a black edge."""

GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "triangle-down": "▼"}
GLYPHS |= {"cross": "✚", "x": "✖", "star": "★"}
"""plotly's markers as characters, for a legend in words."""


def layer_colours(index: int, count: int) -> tuple[str, str]:
    """Background and ink (`#rrggbb`) of one of several exits in their order, readable on any page.

    Args:
        index: 0-based exit.
        count: Number of exits.
    """
    place = (len(STEPS) - 1) * (index / (count - 1) if count > 1 else 0.0)
    low = min(int(place), len(STEPS) - 2)
    share = place - low
    ends = zip(bytes.fromhex(STEPS[low]), bytes.fromhex(STEPS[low + 1]), strict=True)
    rgb = [round((1 - share) * a + share * b) for a, b in ends]
    # Relative luminance (WCAG 2): below 0.18 white is the ink with more contrast, above it black.
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in rgb)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#{:02x}{:02x}{:02x}".format(*rgb), "#000000" if luminance > 0.18 else "#ffffff"
