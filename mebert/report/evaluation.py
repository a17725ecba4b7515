"""The results of one evaluation pass: exits, curves, operating points, where samples left.

Shapes: E exits, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mebert.calibration.costs import PolicyCosts
from mebert.exit_predictor.report import PredictionReport
from mebert.metrics.curve import (
    CurvePoint,
    ExitRecord,
    area_under_curve,
    fixed_exit_points,
    oracle_exits,
    point_at,
    sweep,
)
from mebert.metrics.elue import elue_score, placed_at
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import metric_value
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy
from mebert.policies.temperature import expected_calibration_error


@dataclass
class PolicyResult:
    """One policy on one pass.

    Attributes:
        policy: Fitted on validation data (temperatures, lambda, weights).
        curve: From slow to fast.
        area: Under the curve.
        val_area: Under the curve on the validation pass; None without one.
        at: Speed-up by layers to the metric at exactly that speed on this pass (the threshold that gives it here, which
            needs no labels), or None where the policy does not attain it.
        reliability: Speed-up to the metric's `mebert.report.reliability`; only those that are attained.
    """

    policy: ExitPolicy
    curve: list[CurvePoint]
    area: float
    val_area: float | None
    at: dict[float, float | None]
    reliability: dict[float, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the curve is left to its own table."""
        return {
            "area": self.area,
            "val_area": self.val_area,
            "at": {f"{target:g}": value for target, value in self.at.items()},
            "reliability": {f"{target:g}": value for target, value in self.reliability.items()},
        }


@dataclass
class SampleGroup:
    """Where samples of equal difficulty left.

    Attributes:
        group: Their difficulty, or "all".
        samples: Number of samples.
        metric: The metric over them; None where it is undefined for so few.
        mean_layers: Mean number of layers run.
        shares: Share that left at each exit, (E,) that sum to 1.
    """

    group: str
    samples: int
    metric: float | None
    mean_layers: float
    shares: list[float]


@dataclass
class Evaluation:
    """The results on one split.

    Attributes:
        split: Its name, as in the metrics' prefix.
        metric: Name of the main metric.
        samples: Number of samples.
        exit_layers: The layer of each exit.
        exit_metrics: Metric name to its value at each exit, (E,); for classes also `ece`, the expected calibration
            error.
        gflops: Mean cost of leaving at each exit, (E,), in 1e9 FLOPs.
        plain_gflops: Mean cost of the plain model: all layers, last head.
        fixed: Every sample at the same exit, one point for each exit, from the first exit.
        cut: GFLOPs and metric of the model cut after each exit's layer (no other head is run), from the first exit: the
            reference of ELUE's score.
        curves: Policy name to its whole curve, from slow to fast.
        points: Policy name to its chosen operating points.
        policy: Name of the module's policy.
        current: The module's policy at its threshold; None where its scores were not recorded.
        oracle: Each sample at its earliest correct exit: an upper bound; None for regression and ranking.
        groups: Where samples left at `current`, by difficulty where it is known.
        wall_setting: How wall-clock times were measured; empty if they were not.
        predictions: How well the stored exit predictors predict; empty if there are none.
        policies: Every policy that was compared, by name; empty if none was.
        best_policy: The compared policy with the largest area on validation data; None without such data.
    """

    split: str
    metric: str
    samples: int
    exit_layers: list[int]
    exit_metrics: dict[str, list[float]]
    gflops: list[float]
    plain_gflops: float
    fixed: list[CurvePoint]
    policy: str
    curves: dict[str, list[CurvePoint]] = field(default_factory=dict)
    points: dict[str, list[CurvePoint]] = field(default_factory=dict)
    current: CurvePoint | None = None
    oracle: CurvePoint | None = None
    groups: list[SampleGroup] = field(default_factory=list)
    wall_setting: str = ""
    predictions: list[PredictionReport] = field(default_factory=list)
    policies: dict[str, PolicyResult] = field(default_factory=dict)
    best_policy: str | None = None
    cut: list[tuple[float, float]] = field(default_factory=list)

    def elue(self, points: Sequence[CurvePoint]) -> float:
        """ELUE's score of a curve against the cut models, at their costs (`mebert.metrics.elue`).

        Below its cheapest point the curve goes on to the cheapest cut model by a straight line.
        """
        curve = [(self.plain_gflops / point.speedup_flops, point.metric) for point in points]
        if min(curve)[0] > self.cut[0][0]:
            curve.append(self.cut[0])
        return elue_score(placed_at(curve, [cost for cost, _ in self.cut]), self.cut)

    def area(self, policy: str) -> float:
        """The area under a policy's curve."""
        return area_under_curve(self.curves[policy], self.fixed[0])

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the curves are left to their own table."""
        return {
            "split": self.split,
            "metric": self.metric,
            "samples": self.samples,
            "exits": [
                {
                    "exit": e + 1,
                    "layer": layer,
                    **{name: values[e] for name, values in self.exit_metrics.items()},
                    "gflops": self.gflops[e],
                    "speedup_layers": self.fixed[e].speedup_layers,
                    "speedup_flops": self.fixed[e].speedup_flops,
                }
                for e, layer in enumerate(self.exit_layers)
            ],
            "plain_gflops": self.plain_gflops,
            "policy": self.policy,
            "operating_point": _point_dict(self.current),
            "operating_points": {name: [_point_dict(p) for p in ps] for name, ps in self.points.items()},
            "area_under_curve": {name: self.area(name) for name in self.curves},
            "elue_score": {name: self.elue(points) for name, points in self.curves.items()},
            "oracle": _point_dict(self.oracle),
            "leaving": [vars(row) for row in self.groups],
            "wall_setting": self.wall_setting,
            "exit_prediction": [found.as_dict() for found in self.predictions],
            "policies": {
                name: {**result.as_dict(), "elue_score": self.elue(result.curve)}
                for name, result in self.policies.items()
            },
            "best_policy": self.best_policy,
        }


def curve_of(costs: PolicyCosts, policy: ExitPolicy, num_points: int = 100) -> list[CurvePoint]:
    """The whole curve of a recorded policy, from slow to fast."""
    return sweep(costs.record, policy.name, *costs.arguments(policy), num_points=num_points)


def evaluate(
    model: MultiExitModel,
    record: ExitRecord,
    split: str,
    metrics: Sequence[str],
    policy: ExitPolicy,
    compared: Mapping[str, ExitPolicy],
    thresholds: Mapping[str, Mapping[float, float]],
    targets: Sequence[float],
) -> Evaluation:
    """Compute everything that is reported of one pass.

    Args:
        model: The multi-exit model.
        record: The pass; its scores must have the policies by name.
        split: Name of the split.
        metrics: Names of the metrics, the main one first.
        policy: The module's policy at its threshold.
        compared: The policies whose curves are drawn, by name.
        thresholds: Policy name to target speed-up to threshold, chosen on validation data.
        targets: The target speed-ups to report; those without a threshold are left out.
    """
    costs = PolicyCosts(model, record, metrics[0])
    fixed = fixed_exit_points(record, *costs.arguments(None))[::-1]
    result = Evaluation(
        split=split,
        metric=metrics[0],
        samples=len(record.labels),
        exit_layers=list(model.exit_layers),
        exit_metrics={
            name: [metric_value(name, x, record.labels, record.queries) for x in record.logits] for name in metrics
        },
        gflops=[float(cost.mean()) / 1e9 for cost in costs.sequential(policy)],
        plain_gflops=float(costs.plain.mean()) / 1e9,
        fixed=fixed,
        policy=policy.name,
    )
    direct = costs.direct().mean(1) / 1e9
    result.cut = [(float(cost), point.metric) for cost, point in zip(direct, fixed, strict=True)]
    if model.num_labels > 1:
        result.exit_metrics["ece"] = expected_calibration_error(record.logits, record.labels).tolist()
    for name, other in compared.items():
        result.curves[name] = curve_of(costs, other)
        chosen = thresholds.get(name, {})
        result.points[name] = [costs.point(other, chosen[t], t) for t in targets if t in chosen]
    if policy.name in record.scores:
        result.current = costs.point(policy, policy.threshold)
        result.groups = _groups(record, result.current, model.exit_layers, metrics[0])
    if model.num_labels > 1 and metrics[0] not in RANKING_METRICS:
        exits = oracle_exits(record)
        result.oracle = point_at(record, "oracle", 0.0, *costs.arguments(None), exits)
    return result


def _groups(record: ExitRecord, point: CurvePoint, exit_layers: Sequence[int], metric: str) -> list[SampleGroup]:
    groups = {"all": torch.ones_like(record.index, dtype=torch.bool)}
    if record.difficulty is not None:
        levels = torch.unique(record.difficulty).tolist()
        groups = {str(level): record.difficulty == level for level in levels} | groups
    layers = torch.tensor(exit_layers, dtype=torch.float64)
    logits = record.logits_at(point.exits)
    rows = []
    for group, members in groups.items():
        exits = point.exits[members]
        shares = torch.bincount(exits, minlength=len(exit_layers)).double() / len(exits)
        queries = None if record.queries is None else record.queries[members]
        value = metric_value(metric, logits[members], record.labels[members], queries)
        known = None if math.isnan(value) else value
        rows.append(SampleGroup(group, len(exits), known, float(layers[exits].mean()), shares.tolist()))
    return rows


def _point_dict(point: CurvePoint | None) -> dict[str, Any] | None:
    if point is None:
        return None
    return {name: value for name, value in vars(point).items() if name != "exits"}
