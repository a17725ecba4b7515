"""The mean over seeds and its confidence band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Band:
    """The mean over S seeds at X places, and the band around it: (X,) each; one seed has no band."""

    mean: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    seeds: int

    def ends_text(self, at: int) -> str:
        """Both ends at a place, in brackets; empty without a band."""
        if self.low is None or self.high is None:
            return ""
        return f" ({self.low[at]:.4f} to {self.high[at]:.4f}, {self.seeds} seeds)"


def band_over(values: Sequence[Sequence[float] | np.ndarray]) -> Band:
    """The mean of values (S, X) and its band: both values of two seeds, Student's 95 % interval of the mean of more.

    (The interval of two seeds is 12.7 standard errors wide to each side.)
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


def band_caption(counts: Sequence[int]) -> str:
    """What the bands of a chart are; empty where there is none."""
    parts = ["from the lower to the higher of two seeds"] if 2 in counts else []
    if any(count > 2 for count in counts):
        parts.append("the 95 % interval of the mean (Student's t over the seeds)")
    return f"Lines are means over seeds, bands {', or '.join(parts)}." if parts else ""
