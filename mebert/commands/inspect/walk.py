"""All exits of a batch: what they say, how sure the policy is, and where each text leaves.

Shapes: E exits, B texts, C classes, F feature, M exits with prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.task import predictions_of
from mebert.models.flops import direct_exit_flops, exit_flops, single_exit_flops
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy, FixedExit
from mebert.policies.uncertainty import distance_ratio, normalised_entropy

__all__ = ["Costs", "Walk", "costs_of", "walk_exits"]


@dataclass
class Walk:
    """What all exits say of a batch, on the CPU.

    Attributes:
        logits: (E, B, C).
        features: What each exit pooled, (E, B, F) float32.
        scores: The policy's, (E, B); lower is surer.
        asked: Whether the policy is asked at each exit, (E,) bool; at the last it never is.
        exits: 0-based exit that each text takes, (B,) int64.
        distances: To the prototypes, (M, B, C); None where the model has none.
    """

    logits: Tensor
    features: Tensor
    scores: Tensor
    asked: Tensor
    exits: Tensor
    distances: Tensor | None

    @property
    def answers(self) -> Tensor:
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
        return distance_ratio(self.distances, self.answers[: len(self.distances)])


@torch.inference_mode()
def walk_exits(model: MultiExitModel, policy: ExitPolicy, inputs: dict[str, Tensor]) -> Walk:
    """Run all layers, and then decide as the engines do: exits at which nobody may leave are not asked.

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
    return Walk(
        logits=outputs.logits.float().cpu(),
        features=outputs.features.float().cpu(),
        scores=policy.score_exits(outputs.logits, outputs.features, mask).float().cpu(),
        asked=asked,
        exits=exits,
        distances=distances,
    )


@dataclass
class Costs:
    """What leaving at each exit costs a text, (E,) each.

    Attributes:
        gflops: All that has run by then.
        speedup_layers: Against all layers.
        speedup_flops: Against the plain model: all layers and the last head alone.
    """

    gflops: list[float]
    speedup_layers: list[float]
    speedup_flops: list[float]


def costs_of(model: MultiExitModel, policy: ExitPolicy, tokens: int) -> Costs:
    """The costs of a text.

    Args:
        model: As it was trained; fused copies count the same work otherwise.
        policy: Its own products count, too; of a fixed exit, and of one that never fires, only the exit taken does.
        tokens: The text's length, special tokens included.
    """
    lengths = torch.tensor([tokens])
    never = not any(policy.may_leave(index) for index in range(model.num_exits - 1))
    straight = never or isinstance(policy, FixedExit)
    flops = direct_exit_flops(model, lengths) if straight else exit_flops(model, lengths, policy)
    values = flops[:, 0].tolist()
    plain = float(single_exit_flops(model, lengths)[0])
    return Costs(
        gflops=[value / 1e9 for value in values],
        speedup_layers=[model.exit_layers[-1] / layer for layer in model.exit_layers],
        speedup_flops=[plain / value for value in values],
    )
