"""Rules on the probabilities of one exit: entropy, largest probability, margin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from mebert.errors import UserError
from mebert.policies.base import ExitPolicy
from mebert.policies.uncertainty import normalised_entropy


@dataclass
class Entropy(ExitPolicy):
    """Leave when the normalised entropy is below the threshold (FastBERT's "speed").

    DeeBERT's threshold S is in nats: take S / ln C, which names the same exits (`nats` makes the policy of it). Of
    several labels a row it is the mean of their binary entropies, in bits.
    """

    name = "entropy"
    regression = False

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        return normalised_entropy(logits)

    @classmethod
    def nats(cls, limit: float, num_labels: int) -> Self:
        """The policy of DeeBERT's rule H(p) < S, with the limit S in nats, in [0, ln C].

        >>> round(Entropy.nats(0.34657, num_labels=2).threshold, 4)
        0.5
        """
        if num_labels < 2 or not 0.0 <= limit <= math.log(num_labels):
            raise UserError(f"entropy of {num_labels} labels in nats: the limit must be in [0, ln C], got {limit}")
        return cls(limit / math.log(num_labels))


@dataclass
class MaxProbability(ExitPolicy):
    """Leave when 1 - max p is below the threshold: a threshold of 0.1 asks for a confidence above 0.9.

    Of several labels a row, that confidence in each of them: the least certain one decides.
    """

    name = "max_prob"
    regression = False

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        unsure = 1.0 - logits.float().softmax(-1).amax(-1)
        return unsure.amax(1) if unsure.ndim == 2 else unsure


@dataclass
class Margin(ExitPolicy):
    """Leave when 1 - (p1 - p2) is below the threshold, p1 and p2 the two largest probabilities.

    With two classes this is `MaxProbability` at twice its threshold; with more it also asks who comes second. Of
    several labels a row it is the mean over labels, where `MaxProbability` takes the least certain one.
    """

    name = "margin"
    regression = False

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        largest = logits.float().softmax(-1).topk(2, dim=-1).values
        return 1.0 - (largest[..., 0] - largest[..., 1])
