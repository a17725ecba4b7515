"""All exits of a batch: logits, the policy's scores, and the exit that each text takes.

Shapes: E exits, B texts, C classes, F features, M exits with prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.task import predictions_of
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy
from mebert.policies.uncertainty import distance_ratio, normalised_entropy

__all__ = ["ExitPass", "run_exits"]


@dataclass
class ExitPass:
    """Outputs of all exits for a batch, on the CPU.

    Attributes:
        logits: (E, B, C).
        features: Pooled features of each exit, (E, B, F) float32.
        scores: The policy's, (E, B); lower is more confident.
        asked: Whether the policy is asked at each exit, (E,) bool; never at the last.
        exits: 0-based exit that each text takes, (B,) int64.
        distances: To the prototypes, (M, B, C); None if the model has none.
    """

    logits: Tensor
    features: Tensor
    scores: Tensor
    asked: Tensor
    exits: Tensor
    distances: Tensor | None

    @classmethod
    def concatenate(cls, parts: Sequence[ExitPass], order: Tensor) -> ExitPass:
        """Several batches as one, reordered by the indices `order` (B,)."""

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts], 1)[:, order]

        exits = torch.cat([part.exits for part in parts])[order]
        distances = None if parts[0].distances is None else joined("distances")
        return cls(joined("logits"), joined("features"), joined("scores"), parts[0].asked, exits, distances)

    @property
    def predictions(self) -> Tensor:
        """Class of each exit, (E, B) int64; its estimate (float32) in a regression."""
        return predictions_of(self.logits)

    @property
    def entropies(self) -> Tensor:
        """Normalised entropy of each exit, (E, B), in [0, 1]; of classes only."""
        return normalised_entropy(self.logits)

    @property
    def ratios(self) -> Tensor | None:
        """The distance ratio of each exit with prototypes, (M, B)."""
        if self.distances is None:
            return None
        return distance_ratio(self.distances, self.predictions[: len(self.distances)])


@torch.inference_mode()
def run_exits(model: MultiExitModel, policy: ExitPolicy, inputs: dict[str, Tensor]) -> ExitPass:
    """Run all layers, then decide as the engines do: exits at which nobody may leave are not asked.

    Args:
        model: In evaluation mode; the prepared copy, for the exits that the classifier takes.
        policy: Bound to the model, at its threshold.
        inputs: `input_ids`, `attention_mask` and, if the model reads it, `token_type_ids`, each (B, S).
    """
    outputs = model(**inputs)
    mask = inputs["attention_mask"]
    last = model.num_exits - 1
    asked = torch.tensor([index < last and policy.may_leave(index) for index in range(model.num_exits)])
    exits = torch.full((mask.shape[0],), last)
    state: Any = policy.start(mask)
    for index in range(last):
        if asked[index]:
            leave, state = policy.decide(index, outputs.logits[index], outputs.features[index], state)
            exits = torch.where(leave.cpu() & (exits == last), index, exits)
    bank = model.prototypes
    distances = None
    if bank is not None:
        distances = torch.stack([bank.distances(m, outputs.features[m]) for m in range(bank.num_networks)]).cpu()
    scores = policy.score_exits(outputs.logits, outputs.features, mask)
    return ExitPass(
        outputs.logits.float().cpu(), outputs.features.float().cpu(), scores.float().cpu(), asked, exits, distances
    )
