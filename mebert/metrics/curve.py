"""The accuracy-speed curve from one pass: replay recorded scores at any threshold.

Shapes: E exits, N samples, C classes; of several labels a row logits are (..., C, 2), labels (N, C). One pass over the
    data records every exit's logits and every policy's scores;
each threshold is then a replay, a few operations on an (E, N) table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mebert.metrics.ranking import comparable_logits
from mebert.metrics.task import same_labels
from mebert.storage.thresholds import Threshold, check_exits

MetricFn = Callable[[Tensor, Tensor], float]
"""(logits (N, C) at the exit taken, labels (N,)) to a number; higher is better."""


@dataclass
class ExitRecord:
    """What one pass over a split recorded; rows in the order of the split."""

    logits: Tensor  # (E, N, C) float32, or (E, N, C, 2)
    labels: Tensor  # (N,), or (N, C)
    index: Tensor  # row numbers in the split, (N,) int64
    lengths: Tensor  # tokens of each sample, (N,)
    scores: dict[str, Tensor] = field(default_factory=dict)  # by policy, each (E, N) float32
    difficulty: Tensor | None = None  # known difficulty, (N,) int64
    queries: Tensor | None = None  # question of each sample, (N,) int64, -1 for those that are not ranked
    predicted: list[Tensor] = field(default_factory=list)  # 0-based exits of each exit predictor, (N,) int64 each
    temperatures: Tensor | None = None  # of each exit where rows are ranked, (E,); None leaves the logits as they are
    answers: dict[str, Tensor] = field(
        default_factory=dict
    )  # by policy that answers otherwise than its exit, as logits

    @property
    def num_exits(self) -> int:
        return self.logits.shape[0]

    def select(self, rows: Tensor) -> ExitRecord:
        """The record of some rows, given by their positions (n,) int64."""

        def of(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[rows]

        return ExitRecord(
            self.logits[:, rows],
            self.labels[rows],
            self.index[rows],
            self.lengths[rows],
            {name: scores[:, rows] for name, scores in self.scores.items()},
            of(self.difficulty),
            of(self.queries),
            [values[rows] for values in self.predicted],
            self.temperatures,
            {name: answers[:, rows] for name, answers in self.answers.items()},
        )

    def answered_by(self, policy: str) -> ExitRecord:
        """The record with the logits that a policy answers with instead of the exits' own, where they differ."""
        return replace(self, logits=self.answers[policy]) if policy in self.answers else self

    def logits_at(self, exits: Tensor) -> Tensor:
        """The logits (N, C) of the exit (N,) that each sample took, made comparable by the exits' temperatures."""
        taken = self.logits[exits, torch.arange(exits.shape[0], device=exits.device)]
        return taken if self.temperatures is None else comparable_logits(taken, exits, self.temperatures.tolist())


@dataclass
class CurvePoint:
    """One operating point; None where something was not computed."""

    policy: str
    threshold: Threshold  # a sample leaves when its score is below it
    metric: float  # the main one at the exits taken
    speedup_layers: float  # all layers over mean layers run
    speedup_flops: float  # the plain model's FLOPs over those spent, heads and policy included
    exits: Tensor  # 0-based, (N,)
    target: float | None = None  # the speed-up that the threshold was chosen for
    speedup_wall: float | None = None  # the plain model's seconds over the seconds spent; None where rounds differ
    speedup_wall_range: tuple[float, float] | None = None  # the least and the most of a round
    interval: tuple[float, float] | None = None  # 95 % bootstrap interval of the metric
    speedup_interval: tuple[float, float] | None = None  # that of the speed-up by layers
    agreement: float | None = None  # with the full model's predictions, or its ranking; None for regression
    shares: list[float] | None = None  # of the samples that left at each exit, (E,)


def replay(scores: Tensor, threshold: Threshold) -> Tensor:
    """The 0-based exit (N,) of each sample: the first whose score (E, N) is below the threshold, else the last."""
    if isinstance(threshold, tuple):
        check_exits(threshold, len(scores))
        leave = scores < scores.new_tensor([*threshold, 0.0]).unsqueeze(1)
    else:
        leave = scores < threshold
    leave[-1] = True
    return leave.int().argmax(0)  # the first of equal maxima


def speedup_layers(exits: Tensor, exit_layers: Sequence[int]) -> float:
    """L N / sum of layers run."""
    layers = torch.as_tensor(exit_layers, dtype=torch.float64, device=exits.device)
    return float(layers[-1] / layers[exits].mean())


def point_at(
    record: ExitRecord,
    policy: str,
    threshold: Threshold,
    exit_layers: Sequence[int],
    flops: Tensor,
    full_flops: Tensor,
    metric_fn: MetricFn,
    exits: Tensor | None = None,
) -> CurvePoint:
    """One operating point of a recorded policy, or of given exits (N,); `flops` (E, N) per exit, `full_flops` (N,)."""
    if exits is None:
        exits = replay(record.scores[policy], threshold)
    spent = flops.gather(0, exits.unsqueeze(0)).sum()
    return CurvePoint(
        policy,
        threshold,
        metric_fn(record.answered_by(policy).logits_at(exits), record.labels),
        speedup_layers(exits, exit_layers),
        float(full_flops.sum() / spent),
        exits,
    )


def sweep(
    record: ExitRecord,
    policy: str,
    exit_layers: Sequence[int],
    flops: Tensor,
    full_flops: Tensor,
    metric_fn: MetricFn,
    num_points: int = 100,
) -> list[CurvePoint]:
    """The whole curve of a recorded policy, from "never leave early" to "leave at the first exit".

    Thresholds are quantiles of the scores that occur, so that the points lie where samples are.
    Points that take the same exits as the one before are dropped.
    """
    scores = record.scores[policy][:-1].flatten().double().sort().values
    inner: list[float] = []
    if len(scores):
        ranks = torch.linspace(0, len(scores) - 1, num_points).long()
        inner = sorted(set(scores[ranks].tolist()))
    points: list[CurvePoint] = []
    for threshold in [0.0, *inner, float("inf")]:
        exits = replay(record.scores[policy], threshold)
        if points and torch.equal(points[-1].exits, exits):
            continue
        points.append(point_at(record, policy, threshold, exit_layers, flops, full_flops, metric_fn, exits))
    return points


def fixed_exit_points(
    record: ExitRecord, exit_layers: Sequence[int], flops: Tensor, full_flops: Tensor, metric_fn: MetricFn
) -> list[CurvePoint]:
    """Every sample at the same exit: one point for each exit, from the last to the first."""
    points = []
    for index in reversed(range(record.num_exits)):
        exits = torch.full_like(record.index, index)
        points.append(point_at(record, "fixed", float(index + 1), exit_layers, flops, full_flops, metric_fn, exits))
    return points


def threshold_for_speedup(scores: Tensor, exit_layers: Sequence[int], target: float) -> float | None:
    """The strictest threshold that reaches a speed-up by layers, or None if leaving at the first exit falls short.

    The speed-up rises with the threshold and changes only at scores (E, N) that occur, so a bisection over them is
    exact.
    """
    if target <= 1.0:
        return 0.0
    values = torch.unique(scores[:-1])  # sorted
    if not len(values):
        return None
    # A sample leaves when its score is below the threshold: the next float above a score lets that score leave.
    candidates = torch.nextafter(values, torch.full_like(values, float("inf")))
    low, high = 0, len(candidates) - 1
    if speedup_layers(replay(scores, float(candidates[high])), exit_layers) < target:
        return None
    while low < high:
        middle = (low + high) // 2
        if speedup_layers(replay(scores, float(candidates[middle])), exit_layers) >= target:
            high = middle
        else:
            low = middle + 1
    return float(candidates[low])


def area_under_curve(points: Sequence[CurvePoint], first_exit: CurvePoint | None = None) -> float:
    """Mean metric over the cost axis (share of the layers run), by trapezoids; higher is better.

    Comparable between policies on the same exits and data if their curves share both end points: the curve of a policy
    that cannot leave at the first exit (patience, say) continues to `first_exit`, every sample there, by a straight
    line, which a random choice for each sample attains.
    """
    if first_exit is not None and all(p.speedup_layers < first_exit.speedup_layers for p in points):
        points = [*points, first_exit]
    by_cost = sorted((1.0 / p.speedup_layers, p.metric) for p in points)
    cost = torch.tensor([c for c, _ in by_cost], dtype=torch.float64)
    metric = torch.tensor([m for _, m in by_cost], dtype=torch.float64)
    span = float(cost[-1] - cost[0])
    if span == 0:
        return float(metric.mean())
    return float(torch.trapezoid(metric, cost)) / span


def oracle_exits(record: ExitRecord) -> Tensor:
    """The earliest correct exit (N,); the first one where none is correct. An upper bound, for evaluation only."""
    correct = same_labels(record.logits.argmax(-1), record.labels)
    return correct.int().argmax(0)  # 0 where no exit is correct: later ones would only cost more
