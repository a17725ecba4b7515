"""What leaving at each exit costs, in FLOPs, for samples of known lengths.

Shapes: E exits, N samples, C classes. FLOPs are those of `mebert.models.flops`: matrix products, at true lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.curve import CurvePoint, ExitRecord, area_under_curve, point_at
from mebert.metrics.task import metric_value
from mebert.models.flops import direct_exit_flops, exit_flops, single_exit_flops
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy
from mebert.storage.thresholds import Threshold


class ExitCosts:
    """FLOPs of a model on samples with `lengths` tokens (N,), counted once for many policies.

    `plain` is the cost of the model without early exits, (N,).
    """

    def __init__(self, model: MultiExitModel, lengths: Tensor) -> None:
        self.model = model
        self.lengths = lengths
        self.plain = single_exit_flops(model, lengths)
        self._sequential: dict[int, Tensor] = {}

    def sequential(self, policy: ExitPolicy | None = None) -> Tensor:
        """Exits are tried one after another until one is taken, with the policy's own products, (E, N)."""
        key = 0 if policy is None else policy.flops()
        if key not in self._sequential:
            self._sequential[key] = exit_flops(self.model, self.lengths, policy)
        return self._sequential[key]

    def direct(self) -> Tensor:
        """The layers up to each exit and its head alone, (E, N)."""
        return direct_exit_flops(self.model, self.lengths)


class PolicyCosts(ExitCosts):
    """The costs of a recorded split, and the operating points of policies on it, with the metric of this name."""

    def __init__(self, model: MultiExitModel, record: ExitRecord, metric: str) -> None:
        super().__init__(model, record.lengths)
        self.record = record
        self.metric = metric

    def metric_fn(self, logits: Tensor, labels: Tensor) -> float:
        """The metric of the record's logits at some exits (N, C)."""
        return metric_value(self.metric, logits, labels, self.record.queries)

    def arguments(self, policy: ExitPolicy | None) -> tuple[Sequence[int], Tensor, Tensor, Any]:
        """The last arguments of `point_at` and `sweep` for this policy."""
        return self.model.exit_layers, self.sequential(policy), self.plain, self.metric_fn

    def area(self, points: Sequence[CurvePoint]) -> float:
        """The area under a curve of this record."""
        exits = torch.zeros_like(self.record.index)
        return area_under_curve(points, point_at(self.record, "fixed", 1.0, *self.arguments(None), exits))

    def point(self, policy: ExitPolicy, threshold: Threshold, target: float | None = None) -> CurvePoint:
        """A policy at a threshold, which was chosen for a target speed-up or for none."""
        point = point_at(self.record, policy.name, threshold, *self.arguments(policy))
        point.target = target
        return point
