"""The results of one evaluation pass: exits, curves, operating points, where samples left.

Shapes: E exits, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mebert.calibration.costs import PolicyCosts
from mebert.exit_predictor.base import ExitPredictor
from mebert.exit_predictor.report import PredictionReport, report
from mebert.metrics.curve import (
    CurvePoint,
    ExitRecord,
    area_under_curve,
    fixed_exit_points,
    oracle_exits,
    point_at,
    replay,
    sweep,
)
from mebert.metrics.elue import elue_score, placed_at
from mebert.metrics.per_class import ClassReport, class_report
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import metric_value
from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy
from mebert.policies.temperature import expected_calibration_error
from mebert.storage.thresholds import Threshold


@dataclass
class PolicyResult:
    """One policy on one pass."""

    policy: ExitPolicy  # fitted on validation data (temperatures, lambda, weights)
    curve: list[CurvePoint]  # from slow to fast
    area: float  # under the curve
    val_area: float | None  # under the curve on the validation pass; None without one
    # Speed-up by layers to the metric at exactly that speed on this pass (the threshold that gives it here, which needs
    # no labels), or None where the policy does not attain it; and to its `mebert.report.reliability` where it does.
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
    """Where samples of equal difficulty left."""

    group: str  # their difficulty, or "all"
    samples: int
    metric: float | None  # over them; None where it is undefined for so few
    mean_layers: float  # mean number of layers run
    shares: list[float]  # share that left at each exit, (E,) that sum to 1


@dataclass
class Evaluation:
    """The results on one split; what was not measured is empty or None."""

    split: str  # as in the metrics' prefix
    metric: str  # the main one
    samples: int  # N
    exit_layers: list[int]  # (E,)
    exit_metrics: dict[str, list[float]]  # by metric, at each exit, (E,); of classes also `ece`, the calibration error
    gflops: list[float]  # mean cost of leaving at each exit, (E,), in 1e9 FLOPs
    plain_gflops: float  # of the plain model: all layers, last head
    fixed: list[CurvePoint]  # every sample at the same exit, one point for each exit, from the first exit
    policy: str  # the module's
    curves: dict[str, list[CurvePoint]] = field(default_factory=dict)  # by policy, from slow to fast
    points: dict[str, list[CurvePoint]] = field(default_factory=dict)  # by policy, at thresholds from validation data
    current: CurvePoint | None = None  # the module's policy at its threshold; None where its scores were not recorded
    oracle: CurvePoint | None = (
        None  # each sample at its earliest correct exit: an upper bound; of one class a row only
    )
    groups: list[SampleGroup] = field(default_factory=list)  # where samples left at `current`, by known difficulty
    wall_setting: str = ""  # how wall-clock times were measured
    predictions: list[PredictionReport] = field(default_factory=list)  # how well the stored exit predictors predict
    policies: dict[str, PolicyResult] = field(default_factory=dict)  # every policy that was compared
    best_policy: str | None = None  # the compared policy with the largest area on validation data
    # GFLOPs and metric of the model cut after each exit's layer (no other head is run): the reference of ELUE's score.
    cut: list[tuple[float, float]] = field(default_factory=list)
    classes: dict[str, ClassReport] = field(default_factory=dict)  # `full_depth`, `operating_point`; of classes only

    @property
    def full(self) -> CurvePoint:
        """The full model: every sample at the last exit."""
        return self.fixed[-1]

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

    def exit_rows(self) -> list[dict[str, Any]]:
        """The metrics and the cost of leaving at each exit."""
        rows = []
        for e, (layer, point) in enumerate(zip(self.exit_layers, self.fixed, strict=True)):
            row = {"exit": e + 1, "layer": layer, **{name: values[e] for name, values in self.exit_metrics.items()}}
            speedups = {"speedup_layers": point.speedup_layers, "speedup_flops": point.speedup_flops}
            rows.append(row | {"gflops": self.gflops[e]} | speedups)
        return rows

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the curves are left to their own table."""
        return {
            "split": self.split,
            "metric": self.metric,
            "samples": self.samples,
            "exits": self.exit_rows(),
            "plain_gflops": self.plain_gflops,
            "policy": self.policy,
            "operating_point": _point_dict(self.current),
            "operating_points": {name: [_point_dict(p) for p in ps] for name, ps in self.points.items()},
            "area_under_curve": {name: self.area(name) for name in self.curves},
            "elue_score": {name: self.elue(points) for name, points in self.curves.items()},
            "oracle": _point_dict(self.oracle),
            "full_model": _point_dict(self.full),
            "per_class": {name: found.as_dict() for name, found in self.classes.items()},
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
    thresholds: Mapping[str, Mapping[float, Threshold]],
    targets: Sequence[float],
) -> Evaluation:
    """Compute everything that is reported of one pass.

    The record has the scores of `policy`, which is at its threshold, and of the `compared` ones, whose curves are
    drawn. The first metric is the main one. `thresholds` (policy name to target speed-up to threshold) were chosen on
    validation data; targets without one are left out.
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
    if model.num_labels > 1:
        result.classes["full_depth"] = class_report(record.logits[-1], record.labels, model.label_names)
        if result.current is not None:
            taken = record.answered_by(policy.name).logits_at(result.current.exits)
            result.classes["operating_point"] = class_report(taken, record.labels, model.label_names)
    if model.problem_type == "single_label_classification" and metrics[0] not in RANKING_METRICS:
        result.oracle = point_at(record, "oracle", 0.0, *costs.arguments(None), oracle_exits(record))
    return result


def _groups(record: ExitRecord, point: CurvePoint, exit_layers: Sequence[int], metric: str) -> list[SampleGroup]:
    groups = {"all": torch.ones_like(record.index, dtype=torch.bool)}
    if record.difficulty is not None:
        levels = torch.unique(record.difficulty).tolist()
        groups = {str(level): record.difficulty == level for level in levels} | groups
    layers = torch.tensor(exit_layers, dtype=torch.float64)
    logits = record.answered_by(point.policy).logits_at(point.exits)
    rows = []
    for group, members in groups.items():
        exits = point.exits[members]
        shares = torch.bincount(exits, minlength=len(exit_layers)).double() / len(exits)
        queries = None if record.queries is None else record.queries[members]
        value = metric_value(metric, logits[members], record.labels[members], queries)
        known = None if math.isnan(value) else value
        rows.append(SampleGroup(group, len(exits), known, float(layers[exits].mean()), shares.tolist()))
    return rows


def prediction_reports(
    record: ExitRecord, predictors: Sequence[ExitPredictor], exit_layers: Sequence[int], metric: str
) -> list[PredictionReport]:
    """How well each predictor whose policy was recorded predicts the exits."""

    def metric_at(exits: Tensor) -> float:
        return metric_value(metric, record.logits_at(exits), record.labels, record.queries)

    reports = []
    for predictor, predicted in zip(predictors, record.predicted, strict=True):
        origin = predictor.origin
        if origin is None or origin.policy not in record.scores:
            continue
        taken = replay(record.scores[origin.policy], origin.threshold)
        found = report(predicted, taken, exit_layers, metric_at)
        found.origin, found.kind, found.coverage = origin, type(predictor).__name__, predictor.coverage
        reports.append(found)
    return reports


def _point_dict(point: CurvePoint | None) -> dict[str, Any] | None:
    return None if point is None else {name: value for name, value in vars(point).items() if name != "exits"}
