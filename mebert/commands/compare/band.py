"""The mean over seeds and a band around it.

Shapes: S seeds, X places on an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Band", "band_over", "band_words", "student_quantile"]


@dataclass(frozen=True)
class Band:
    """Figures over seeds.

    Attributes:
        mean: (X,).
        low: Lower end (X,); None for one seed.
        high: Upper end (X,), or None.
        seeds: How many.
    """

    mean: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    seeds: int


def band_over(values: Sequence[Sequence[float] | np.ndarray]) -> Band:
    """The mean and its band: of two seeds both values, of more Student's 95 % interval of the mean.

    Two seeds have an interval, too, but it is 12.7 standard errors wide to each side, and says nothing.

    Args:
        values: (S, X), NaN where a seed has none.
    """
    table = np.asarray(values, dtype=float)
    seeds = len(table)
    mean = table.mean(0)
    if seeds == 1:
        return Band(mean, None, None, 1)
    if seeds == 2:
        return Band(mean, table.min(0), table.max(0), 2)
    half = student_quantile(seeds - 1) * table.std(0, ddof=1) / math.sqrt(seeds)
    return Band(mean, mean - half, mean + half, seeds)


def band_words(counts: Sequence[int]) -> str:
    """What the bands of a chart are, for its caption; empty where there is none.

    Args:
        counts: Seeds of each line.
    """
    two, more = 2 in counts, any(count > 2 for count in counts)
    parts = ["from the lower to the higher of two seeds"] if two else []
    parts += ["the 95 % interval of the mean (Student's t over the seeds)"] if more else []
    return f"Lines are means over seeds, bands {', or '.join(parts)}." if parts else ""


def student_quantile(freedom: int, level: float = 0.95) -> float:
    """The t that a Student variable stays below in absolute value with a probability.

    Abramowitz and Stegun 26.7.3 and 26.7.4 (EXACT for whole degrees of freedom), inverted by bisection.

    Args:
        freedom: Degrees of freedom, at least 1.
        level: The probability.

    >>> round(student_quantile(2), 4)
    4.3027
    """
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| < t)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
