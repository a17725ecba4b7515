"""Any policy on calibrated probabilities: one temperature an exit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.policies.base import ExitPolicy, policy_from_spec
from mebert.policies.confidence import Entropy
from mebert.policies.temperature import fit_temperatures

if TYPE_CHECKING:
    from mebert.metrics.curve import ExitRecord
    from mebert.models.multi_exit import MultiExitModel


@dataclass
class TemperatureScaled(ExitPolicy):
    """Another policy's rule on softmax(z_i / T_i), the temperatures fitted on validation data (`fit_temperatures`).

    One threshold serves all exits, so their confidences should be comparable; shallow exits are often overconfident.
    Predictions do not change, and neither does a rule that reads predictions alone (patience, voting).

    Args:
        threshold: On the other policy's score, in [0, 1].
        policy: The other policy; its own threshold is not used.
        temperatures: T_i of every exit, (E,), each above 0; empty: 1 until validation data has been seen.
    """

    policy: ExitPolicy = field(default_factory=Entropy)
    temperatures: tuple[float, ...] = ()

    name = "scaled"

    @property
    def needs_prototypes(self) -> bool:
        return self.policy.needs_prototypes

    @property
    def needs_exit_scorer(self) -> bool:
        return self.policy.needs_exit_scorer

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.policy
        if isinstance(given, Mapping):  # as `spec` wrote it
            self.policy = policy_from_spec(dict(given))
        self.temperatures = tuple(float(value) for value in self.temperatures)
        if not all(0 < value < math.inf for value in self.temperatures):
            raise UserError(f"TemperatureScaled: temperatures must be above 0, got {list(self.temperatures)}")
        if getattr(self.policy, "average", False):
            raise UserError(f"TemperatureScaled: the policy {self.policy.name!r} must have average false")
        self._inner = self.policy.with_threshold(self.threshold)

    def bind(self, model: MultiExitModel) -> Self:
        super().bind(model)
        if model.num_labels < 2:
            raise UserError(f"the policy {self.name!r} scales probabilities, and this model is for regression")
        if len(self.temperatures) not in (0, model.num_exits):
            raise UserError(
                f"TemperatureScaled: {len(self.temperatures)} temperatures, but the model has {model.num_exits} exits"
            )
        # A copy, since `with_threshold` of this one shares the policy with the copies that it made.
        self.policy = self.policy.with_threshold(self.policy.threshold).bind(model)
        self._inner = self.policy.with_threshold(self.threshold)
        return self

    def fitted(self, record: ExitRecord) -> Self:
        values = fit_temperatures(record.logits, record.labels).tolist()
        scaled = replace(self, temperatures=tuple(values))
        inner = self.policy.fitted(replace(record, logits=scaled._all_scaled(record.logits)))
        return replace(scaled, policy=inner)

    def _scaled(self, exit_index: int, logits: Tensor) -> Tensor:
        return logits.float() / self.temperatures[exit_index] if self.temperatures else logits

    def _all_scaled(self, logits: Tensor) -> Tensor:
        return torch.stack([self._scaled(index, z) for index, z in enumerate(logits)])

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        return self._inner.score(exit_index, self._scaled(exit_index, logits), features)

    def start(self, attention_mask: Tensor) -> Any:
        return self._inner.start(attention_mask)

    def score_exits(self, logits: Tensor, features: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self._inner.score_exits(self._all_scaled(logits), features, attention_mask)

    def score_record(self, record: ExitRecord) -> Tensor:
        return self._inner.score_record(replace(record, logits=self._all_scaled(record.logits)))

    def observe(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self._inner.observe(exit_index, self._scaled(exit_index, logits), features, state)

    def may_leave(self, exit_index: int) -> bool:
        return self._inner.may_leave(exit_index)

    def flops(self) -> int:
        return self.policy.flops()

    def spec(self) -> dict[str, Any]:
        own = {"threshold": self.threshold, "temperatures": list(self.temperatures), "policy": self.policy.spec()}
        return {**super().spec(), "init_args": own}
