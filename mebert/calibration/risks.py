"""Which loss against the full model is bounded, and by which test.

Shapes: N samples, (...) experiments, C labels where a row has several. Leaving early costs accuracy E[full right] -
    E[early right]; a sample is
right or wrong at both exits, so that its own difference is -1, 0 or 1. Each risk here bounds that cost by epsilon.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mebert.calibration.bounds import (
    betting_p_value,
    binomial_p_value,
    hoeffding_bentkus_p_value,
    smallest_binomial_split,
    smallest_sample,
)


class Risk:
    """A loss of each sample, and the p-value for "its mean is above epsilon".

    To bound another one, subclass: `losses` in [0, 1], `p_value` where the losses are not 0 or 1, and `limit` and
    `measured` where their mean is not in the unit of epsilon.
    """

    name: ClassVar[str] = "risk"
    meaning: ClassVar[str] = ""
    needs_labels: ClassVar[bool] = True
    lossless: ClassVar[float] = 0.0
    """The loss of a sample that leaving early does not change."""

    def losses(self, early: Tensor, full: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample, (..., N) float64; of several labels a row that of each label, (..., N, C).

        Args:
            early: Class at the exit taken, (..., N).
            full: Class at the last exit, (N,).
            labels: (N,).
        """
        raise TypeError(f"{type(self).__name__} must define losses")

    def p_value(self, total: Tensor, n: int, epsilon: float) -> Tensor:
        """The p-value of summed losses (...), float64; exact for losses of 0 and 1."""
        return binomial_p_value(total, n, epsilon)

    def betting_p_value(self, losses: Tensor, epsilon: float, delta: float) -> Tensor:
        """The p-value of Waudby-Smith and Ramdas for losses (..., N), whatever their values, float64."""
        return betting_p_value(losses, self.limit(epsilon), delta)

    def limit(self, epsilon: float) -> float:
        """The mean loss that is an `epsilon` of accuracy lost."""
        return epsilon

    def measured(self, mean: float) -> float:
        """A mean loss as a loss of accuracy, in the unit of epsilon."""
        return mean

    def smallest_split(self, epsilon: float, delta: float) -> int:
        """The fewest samples with which any guarantee is possible, if no sample has a loss."""
        return smallest_binomial_split(epsilon, delta)

    def smallest_betting_split(self, epsilon: float, delta: float) -> int:
        """As `smallest_split`, for `betting_p_value`."""

        def enough(n: int) -> bool:
            losses = torch.full((n,), self.lossless, dtype=torch.float64)
            return bool(self.betting_p_value(losses, epsilon, delta) <= delta)

        return smallest_sample(enough)


class NewMistakes(Risk):
    """1 where the full model is right and the early prediction is wrong.

    Its mean is at least the loss of accuracy, which also counts the errors that early exits correct; so the guarantee
    is stronger than "accuracy falls by at most epsilon", and its exact test needs far fewer samples than the
    difference.
    """

    name = "mistakes"
    meaning = "wrong where the full model is right"

    def losses(self, early: Tensor, full: Tensor, labels: Tensor) -> Tensor:
        return ((early != labels) & (full == labels)).double()


class Disagreement(Risk):
    """1 where the early prediction differs from the full model's; labels are not used, and its mean is larger still."""

    name = "disagreement"
    meaning = "prediction differs from the full model's"
    needs_labels = False

    def losses(self, early: Tensor, full: Tensor, labels: Tensor) -> Tensor:
        return (early != full).double()


class AccuracyDifference(Risk):
    """(1 + [full right] - [early right]) / 2, whose mean is (1 + loss of accuracy) / 2: Hoeffding-Bentkus.

    Corrected errors offset new ones; but a mean near 1/2 is hard to bound: more than a thousand samples for an epsilon
    of 0.05, tens of thousands for 0.01. `betting_p_value` sees that most losses are 1/2: a hundred and five hundred.
    """

    name = "difference"
    meaning = "accuracy lost, corrected mistakes subtracted"
    lossless = 0.5

    def losses(self, early: Tensor, full: Tensor, labels: Tensor) -> Tensor:
        return (1.0 + (full == labels).double() - (early == labels).double()) / 2

    def p_value(self, total: Tensor, n: int, epsilon: float) -> Tensor:
        return hoeffding_bentkus_p_value(total, n, self.limit(epsilon))

    def limit(self, epsilon: float) -> float:
        return (1 + epsilon) / 2

    def measured(self, mean: float) -> float:
        return 2 * mean - 1

    def smallest_split(self, epsilon: float, delta: float) -> int:
        def enough(n: int) -> bool:
            return bool(self.p_value(torch.tensor(n / 2), n, epsilon) <= delta)

        return smallest_sample(enough, step=2)  # of even numbers, at which half of n is a sum that can occur


RISKS: dict[str, Risk] = {risk.name: risk for risk in (NewMistakes(), Disagreement(), AccuracyDifference())}
"""The risks of the command line, by name."""
