"""Requests to a calibration, and the operating points that meet them for one policy.

Shapes: E exits, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mebert.calibration.choose import (
    Correction,
    Guarantee,
    PValue,
    check_levels,
    guaranteed_threshold,
    threshold_for_cost,
    threshold_for_drop,
    threshold_grid,
)
from mebert.calibration.costs import PolicyCosts
from mebert.calibration.default_point import expected_at
from mebert.calibration.per_exit import JointSearch, Shape, exit_shapes, row_losses, thresholds_for_drop
from mebert.calibration.risks import RISKS
from mebert.errors import UserError
from mebert.metrics.curve import CurvePoint, replay, speedup_layers
from mebert.policies import ExitPolicy
from mebert.storage.operating_point import check_max_drop
from mebert.storage.spec_parts import Expected
from mebert.storage.thresholds import Threshold

Kind = Literal["speedup", "speedup_flops", "layers", "gflops", "max_drop", "guarantee"]
ROUNDING = 1 + 1e-12  # of a budget that is a quotient


@dataclass(frozen=True)
class Request:
    """One criterion for a threshold; of a guarantee `value` is epsilon, and `loss` a key of `RISKS`.

    `p_value` and `correction` are those of `guaranteed_threshold`.
    """

    kind: Kind
    value: float
    delta: float = 0.1
    loss: str = "mistakes"
    p_value: PValue = "loss"
    correction: Correction = "fixed_sequence"

    def __post_init__(self) -> None:
        if self.kind == "guarantee":
            check_levels(self.value, self.delta)
        if self.kind == "max_drop":
            check_max_drop("max_drop", self.value)
        least = 1.0 if self.kind.startswith("speedup") else 0.0
        if not (math.isfinite(self.value) and self.value >= least):
            raise UserError(f"{self.kind} must be a number of at least {least:g}, got {self.value}")
        if self.loss not in RISKS:
            raise UserError(f"loss must be one of {', '.join(RISKS)}, got {self.loss!r}")

    def __str__(self) -> str:
        return {
            "speedup": f"{self.value:g}x by layers",
            "speedup_flops": f"{self.value:g}x by FLOPs",
            "layers": f"{self.value:g} layers on average",
            "gflops": f"{self.value:g} GFLOPs on average",
            "max_drop": f"max_drop {self.value:g}",
            "guarantee": f"epsilon {self.value:g}, delta {self.delta:g}",
        }[self.kind]


@dataclass(frozen=True)
class Calibrated:
    """The operating point for a request on the calibration rows; `point` is None where the policy cannot be so fast.

    `full` is the metric of the full model, `fastest` the largest speed-up by layers that the policy reaches, and
    `expected` what these rows expect of the point.
    """

    policy: str
    request: Request
    point: CurvePoint | None
    full: float
    guarantee: Guarantee | None = None
    fastest: float = 1.0
    expected: Expected | None = None

    @property
    def stored(self) -> tuple[str, float, Any] | None:
        """Section, number and value for `exits.json`; None for what is not stored."""
        if self.point is None:
            return None
        if self.guarantee is not None:
            return "guarantees", self.request.value, dict(vars(self.guarantee))
        section = {"speedup": "operating_points", "max_drop": "max_drops"}.get(self.request.kind)
        return None if section is None else (section, self.request.value, self.point.threshold)


def requests(
    delta: float,
    loss: str,
    epsilon: float | Sequence[float] | None,
    p_value: PValue = "loss",
    correction: Correction = "fixed_sequence",
    **values: float | Sequence[float] | None,
) -> list[Request]:
    """One request for each number among the arguments of `calibrate`; a UserError if there is none."""
    found = [Request(kind, value) for kind, given in values.items() for value in _numbers(given)]  # type: ignore[arg-type]
    found += [Request("guarantee", value, delta, loss, p_value, correction) for value in _numbers(epsilon)]
    if not found:
        raise UserError(
            "give what the threshold is for: one or more of speedup, speedup_flops, layers, gflops, max_drop, epsilon"
        )
    return found


def calibrate_policy(
    policy: ExitPolicy,
    asked: Sequence[Request],
    costs: PolicyCosts,
    data: str = "validation data",
    shaped_on: PolicyCosts | None = None,
) -> list[Calibrated]:
    """Meet all requests for one policy from one recorded pass over `data`.

    With `shaped_on` each exit gets its own threshold; how they stand to each other is chosen on that record, which for
    a guarantee must have other rows.

    Raises:
        UserError: Too few samples for a guarantee.
    """
    rows, others = _Rows(policy, costs), None if shaped_on is None else _Rows(policy, shaped_on)
    full = costs.point(policy, 0.0).metric
    fastest = speedup_layers(replay(rows.scores, 1.0), costs.model.exit_layers)
    found = []
    for request in asked:
        guarantee = None
        if request.kind == "guarantee":
            how = request.delta, RISKS[request.loss], request.p_value, request.correction
            path = () if others is None else others.path(request)
            guarantee = guaranteed_threshold(costs.record, rows.scores, request.value, *how, path)
        threshold = rows.threshold(request, others) if guarantee is None else guarantee.threshold
        point = None if threshold is None else costs.point(policy, threshold)
        expected = None
        if threshold is not None:
            at = policy.with_threshold(threshold)
            expected = expected_at(costs.record, at, costs.model.exit_layers, costs.metric, data)
        found.append(Calibrated(policy.name, request, point, full, guarantee, fastest, expected))
    return found


class _Rows:
    """A policy on recorded rows, and how the thresholds of its exits may stand to each other; by layers or by FLOPs."""

    def __init__(self, policy: ExitPolicy, costs: PolicyCosts) -> None:
        self.policy, self.costs, self.record = policy, costs, costs.record
        self.scores = costs.record.scores[policy.name]
        self._shapes: dict[bool, list[Shape]] = {}

    def spent(self, by_layers: bool) -> Tensor:
        """Cost of leaving at each exit, (E, N) float64."""
        if not by_layers:
            return self.costs.sequential(self.policy)
        layers = torch.tensor(self.costs.model.exit_layers, dtype=torch.float64)
        return layers.unsqueeze(1).expand(-1, len(self.record.labels))

    def shapes(self, by_layers: bool) -> list[Shape]:
        if by_layers not in self._shapes:
            self._shapes[by_layers] = exit_shapes(self.scores, row_losses(self.record), self.spent(by_layers))
        return self._shapes[by_layers]

    def metric_at(self, exits: Tensor) -> float:
        return self.costs.metric_fn(self.record.logits_at(exits), self.record.labels)

    def threshold(self, request: Request, shaped_on: _Rows | None) -> Threshold | None:
        """What meets a request that is no guarantee; None where the policy cannot be so fast."""
        value, by_layers = request.value, request.kind in ("speedup", "layers", "max_drop")
        if request.kind.startswith("speedup") and value == 1.0:
            return 0.0  # the full depth, at which no exit but the last is computed
        spent = self.spent(by_layers)
        shapes = [] if shaped_on is None else shaped_on.shapes(by_layers)
        search = JointSearch(self.scores, spent, self.metric_at, shapes) if shapes else None
        if request.kind == "max_drop":
            if shaped_on is None:
                return threshold_for_drop(self.scores, self.metric_at, value)
            layers = self.costs.model.exit_layers
            return thresholds_for_drop(self.record, self.policy.name, layers, self.costs.metric, value)
        most = value * (1e9 if request.kind == "gflops" else 1)
        if request.kind.startswith("speedup"):
            most = float(self.costs.model.exit_layers[-1] if by_layers else self.costs.plain.mean()) / value
        most *= ROUNDING
        return search.for_cost(most) if search else threshold_for_cost(self.scores, spent, most)

    def path(self, request: Request) -> list[Threshold]:
        """The thresholds to test on other rows for a guarantee: of the shape that is fastest within epsilon here."""
        full, risk = self.record.logits[-1].argmax(-1), RISKS[request.loss]

        def kept_at(exits: Tensor) -> float:
            losses = risk.losses(self.record.logits_at(exits).argmax(-1), full, self.record.labels)
            return -risk.measured(float(losses.mean()))  # of several labels a row the mean over rows and labels

        search = JointSearch(self.scores, self.spent(by_layers=True), kept_at, self.shapes(by_layers=True))
        shape, _ = search.for_drop(request.value)
        return [shape.at(threshold) for threshold in threshold_grid().tolist()]


def _numbers(given: float | Sequence[float] | None) -> list[float]:
    if given is None:
        return []
    return [float(value) for value in given] if isinstance(given, Sequence) else [float(given)]
