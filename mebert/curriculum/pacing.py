"""Pacing: which part of the training rows, ranked by difficulty, is in use at which time of the training.

Time is the share of the training steps that are done, in [0, 1). To add a pacing, subclass `Pacing` (one method) and
give its `class_path`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from mebert.errors import check_range


class Pacing(ABC):
    """A growing share of the data; `window` may be overridden where easy rows are left behind.

    Args:
        until: Share of the training, in (0, 1], after which all data is in use.
    """

    def __init__(self, until: float = 0.5) -> None:
        check_range(f"{type(self).__name__}: until", until, 0, 1, low_open=True)
        self.until = until

    @abstractmethod
    def share(self, time: float) -> float:
        """The share of the ranked rows in use, in (0, 1], at a time in [0, 1) of the curriculum (up to `until`)."""

    def window(self, progress: float) -> tuple[float, float]:
        """The rows in use, as shares [low, high] of the ranking, at a progress in [0, 1) of the whole training."""
        if progress >= self.until:
            return 0.0, 1.0
        return 0.0, min(1.0, self.share(progress / self.until))


class _Competence(Pacing):
    """A share that grows continuously.

    Args:
        until: Share of the training, in (0, 1], after which all data is in use (the paper's T).
        start: Share in use at the start, c0, in (0, 1].
    """

    def __init__(self, until: float = 0.5, start: float = 0.01) -> None:
        super().__init__(until)
        check_range(f"{type(self).__name__}: start", start, 0, 1, low_open=True)
        self.start = start


class RootCompetence(_Competence):
    """c(t) = min(1, sqrt(t (1 - c0^2) + c0^2)): fewer and fewer new rows a step (Platanios et al. 2019)."""

    def share(self, time: float) -> float:
        return math.sqrt(time * (1.0 - self.start**2) + self.start**2)


class LinearCompetence(_Competence):
    """c(t) = min(1, t (1 - c0) + c0): equally many new rows a step (Platanios et al. 2019)."""

    def share(self, time: float) -> float:
        return time * (1.0 - self.start) + self.start


class _Buckets(Pacing):
    """Rows in equal buckets by difficulty.

    Args:
        until: Share of the training, in (0, 1], after which all data is in use.
        buckets: Number of buckets, at least 2.
    """

    def __init__(self, until: float = 0.5, buckets: int = 5) -> None:
        super().__init__(until)
        check_range(f"{type(self).__name__}: buckets", buckets, 2)
        self.buckets = buckets

    def share(self, time: float) -> float:
        return (math.floor(time * self.buckets) + 1) / self.buckets


class BabySteps(_Buckets):
    """Cumulative buckets for equal times: the easiest, then the two easiest, and so on (Spitkovsky et al. 2010)."""


class Annealing(_Buckets):
    """Cumulative buckets, stage i as long as i times the first: each stage shows an equal part of each of its buckets.

    The annealing of Xu et al. 2020, in steps instead of epochs (RECONSTRUCTED).
    """

    def share(self, time: float) -> float:
        # Stage i ends at i (i + 1) / (K (K + 1)): the smallest i whose end lies after this time.
        whole = time * self.buckets * (self.buckets + 1)
        stage = math.floor((math.sqrt(1.0 + 4.0 * whole) - 1.0) / 2.0) + 1
        return min(stage, self.buckets) / self.buckets


class OnePass(_Buckets):
    """One bucket after another, each alone for an equal time, then all data (Bengio et al. 2009)."""

    def window(self, progress: float) -> tuple[float, float]:
        low, high = super().window(progress)
        return (low, high) if progress >= self.until else (high - 1.0 / self.buckets, high)
