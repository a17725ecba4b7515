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
    Guarantee,
    check_levels,
    guaranteed_threshold,
    threshold_for_cost,
    threshold_for_drop,
)
from mebert.calibration.costs import PolicyCosts
from mebert.calibration.default_point import expected_at
from mebert.calibration.risks import RISKS
from mebert.errors import UserError
from mebert.metrics.curve import CurvePoint, replay, speedup_layers
from mebert.policies import ExitPolicy
from mebert.policies.stored_thresholds import check_max_drop
from mebert.storage.model_spec import Expected

Kind = Literal["speedup", "speedup_flops", "layers", "gflops", "max_drop", "guarantee"]
ROUNDING = 1 + 1e-12  # of a budget that is a quotient


@dataclass(frozen=True)
class Request:
    """One criterion for a threshold; of a guarantee `value` is epsilon, and `loss` a key of `RISKS`."""

    kind: Kind
    value: float
    delta: float = 0.1
    loss: str = "mistakes"

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
    delta: float, loss: str, epsilon: float | Sequence[float] | None, **values: float | Sequence[float] | None
) -> list[Request]:
    """One request for each number among the arguments of `calibrate`; a UserError if there is none."""
    found = [Request(kind, value) for kind, given in values.items() for value in _numbers(given)]  # type: ignore[arg-type]
    found += [Request("guarantee", value, delta, loss) for value in _numbers(epsilon)]
    if not found:
        raise UserError(
            "give what the threshold is for: one or more of speedup, speedup_flops, layers, gflops, max_drop, epsilon"
        )
    return found


def calibrate_policy(
    policy: ExitPolicy, asked: Sequence[Request], costs: PolicyCosts, data: str = "validation data"
) -> list[Calibrated]:
    """Meet all requests for one policy from one recorded pass over `data`.

    Raises:
        UserError: Too few samples for a guarantee.
    """
    scores = costs.record.scores[policy.name]
    full = costs.point(policy, 0.0).metric
    fastest = speedup_layers(replay(scores, 1.0), costs.model.exit_layers)
    found = []
    for request in asked:
        guarantee = None
        if request.kind == "guarantee":
            risk = RISKS[request.loss]
            guarantee = guaranteed_threshold(costs.record, scores, request.value, request.delta, risk)
        threshold = _threshold(policy, request, costs) if guarantee is None else guarantee.threshold
        point = None if threshold is None else costs.point(policy, threshold)
        expected = None
        if threshold is not None:
            at = policy.with_threshold(threshold)
            expected = expected_at(costs.record, at, costs.model.exit_layers, costs.metric, data)
        found.append(Calibrated(policy.name, request, point, full, guarantee, fastest, expected))
    return found


def _threshold(policy: ExitPolicy, request: Request, costs: PolicyCosts) -> float | None:
    record, scores, value = costs.record, costs.record.scores[policy.name], request.value
    if request.kind.startswith("speedup") and value == 1.0:
        return 0.0  # the full depth, at which no exit but the last is computed
    if request.kind == "max_drop":
        return threshold_for_drop(scores, lambda exits: costs.metric_fn(record.logits_at(exits), record.labels), value)
    if request.kind in ("speedup", "layers"):
        layers = torch.tensor(costs.model.exit_layers, dtype=torch.float64)
        spent: Tensor = layers.unsqueeze(1).expand(-1, len(record.labels))
        most = value if request.kind == "layers" else float(layers[-1]) / value
        return threshold_for_cost(scores, spent, most * ROUNDING)
    flops = costs.sequential(policy)
    most = value * 1e9 if request.kind == "gflops" else float(costs.plain.mean()) / value
    return threshold_for_cost(scores, flops, most * ROUNDING)


def _numbers(given: float | Sequence[float] | None) -> list[float]:
    if given is None:
        return []
    return [float(value) for value in given] if isinstance(given, Sequence) else [float(given)]
