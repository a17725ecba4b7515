"""DE3-BERT's rules on distances to prototypes (E exits, N samples of a recorded pass)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.policies.area import area_of_scores
from mebert.policies.base import ExitPolicy, recorded
from mebert.policies.uncertainty import distance_ratio, hybrid_indicator, normalised_entropy

if TYPE_CHECKING:
    from mebert.metrics.curve import ExitRecord
    from mebert.models.multi_exit import MultiExitModel
    from mebert.models.prototypes import PrototypeBank


@dataclass
class DistanceRatio(ExitPolicy):
    """Leave when the distance ratio to the prototypes is below the threshold (DE3-BERT's DR alone)."""

    name = "dr"
    regression = False
    multi_label = False

    @property
    def needs_prototypes(self) -> bool:
        return True

    def bind(self, model: MultiExitModel) -> Self:
        super().bind(model)
        if model.prototypes is None:
            raise UserError(
                f"the policy {self.name!r} needs prototypes, and this model has none; "
                "train it with ProtoExitModule (prototypes: true), give it some (mebert.fit_prototypes), or choose "
                "another policy"
            )
        self._bank = model.prototypes
        self._exit_layers = model.exit_layers
        return self

    @property
    def bank(self) -> PrototypeBank:
        bank: PrototypeBank | None = getattr(self, "_bank", None)
        if bank is None:
            raise UserError(f"the policy {self.name!r} is not bound to a model yet: call policy.bind(model)")
        return bank

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        if exit_index >= self.bank.num_networks:  # the last exit has no prototypes, and needs none: it always leaves
            return torch.zeros(logits.shape[0], device=logits.device)
        return distance_ratio(self.bank.distances(exit_index, features), logits.argmax(-1))

    def score_record(self, record: ExitRecord) -> Tensor:
        return recorded(record, self.name, "dr")

    def flops(self) -> int:
        return self.bank.flops()


@dataclass
class HybridDistanceEntropy(DistanceRatio):
    """DE3-BERT's hybrid rule: leave when EDR is below the threshold.

    Args:
        threshold: On EDR, in [0, 1].
        lam: Weight of the distance ratio against the entropy, at least 0.
        lam_grid: Weights to choose from on validation data, by the area under the curve; empty: `lam` stays.
    """

    lam: float = 1.0
    lam_grid: tuple[float, ...] = ()

    name = "edr"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lam >= 0:
            raise UserError(f"{type(self).__name__}: lam must be at least 0, got {self.lam}")
        self.lam_grid = tuple(float(value) for value in self.lam_grid)
        if not all(value >= 0 for value in self.lam_grid):
            raise UserError(f"{type(self).__name__}: lam_grid must hold values of at least 0, got {self.lam_grid}")

    def fitted(self, record: ExitRecord) -> Self:
        if not self.lam_grid:
            return self
        dr, entropy = recorded(record, self.name, "dr"), normalised_entropy(record.logits)
        return replace(self, lam=choose_lambda(record, dr, entropy, self.lam_grid, self._exit_layers))

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        dr = super().score(exit_index, logits, features)
        return hybrid_indicator(dr, normalised_entropy(logits), self.lam)

    def score_record(self, record: ExitRecord) -> Tensor:
        return hybrid_indicator(recorded(record, self.name, "dr"), normalised_entropy(record.logits), self.lam)


def choose_lambda(
    record: ExitRecord, dr: Tensor, entropy: Tensor, grid: Sequence[float], exit_layers: Sequence[int]
) -> float:
    """The lambda whose EDR, of distance ratios and entropies (E, N), has the largest area; of equals the first."""
    return max(grid, key=lambda lam: area_of_scores(record, hybrid_indicator(dr, entropy, lam), exit_layers))
