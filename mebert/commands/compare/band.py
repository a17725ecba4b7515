"""The mean over seeds and a band around it.

Shapes: S seeds, X places on an axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Band", "band_over", "band_words"]


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
    from scipy.stats import t  # a second of imports

    half = t.ppf(0.975, seeds - 1) * table.std(0, ddof=1) / math.sqrt(seeds)
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
