"""A threshold for each exit, chosen together on one recorded pass.

One pass gives a few *shapes*: how the exits' thresholds stand to each other, as offsets in log-odds. A shape and one
number make all thresholds, and one number is then chosen for a cost, a drop or a guarantee as for a shared threshold,
which is the shape of offsets 0. Shapes are the minima of mean loss + price x mean cost for a row of prices, each by
coordinate descent: with the others held, the best threshold of one exit is exact (sort, cumulative sums, smallest).
Ours. Shapes: E exits, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mebert.calibration.choose import threshold_for_cost, threshold_for_drop
from mebert.calibration.fitting import fitting_rows
from mebert.metrics.curve import ExitRecord, replay
from mebert.metrics.task import metric_value
from mebert.policies.base import LOOSEST
from mebert.storage.thresholds import Threshold, as_threshold

PRICES = 24
NEAREST = 4
"""Shapes are tried for a request whose own cost is nearest: a shape for another speed fits by chance, if at all."""
SWEEPS = 10
TINY = 1e-12


@dataclass(frozen=True)
class Shape:
    """Offsets of the exits' thresholds in log-odds (E - 1), infinite where all samples leave or none may.

    `cost` is the mean cost at the thresholds that they are from.
    """

    offsets: tuple[float, ...]
    cost: float

    def at(self, threshold: float) -> Threshold:
        """The exits' thresholds where one number stands for them, in [0, 1] or `LOOSEST`; they rise with it."""
        if not any(self.offsets) or threshold <= 0.0 or threshold >= 1.0:
            return threshold
        level = _log_odds(threshold)
        numbers = torch.tensor(self.offsets, dtype=torch.float64).add(level).sigmoid().tolist()
        return as_threshold(
            [LOOSEST if math.isinf(o) and o > 0 else n for o, n in zip(self.offsets, numbers, strict=True)]
        )

    def shared_scores(self, scores: Tensor) -> Tensor:
        """Scores (E, N) float64 for which the one number is the threshold of all exits."""
        inner = scores[:-1].double()
        offsets = torch.tensor(self.offsets, dtype=torch.float64).unsqueeze(1)
        moved = (inner.clamp(TINY, 1 - TINY).logit() - offsets).sigmoid()
        return torch.cat([torch.where(inner < 1.0, moved, inner), scores[-1:].double()])


def row_losses(record: ExitRecord) -> Tensor:
    """What leaving at each exit costs in quality, (E, N) float64: 1 if wrong, in a regression the squared error.

    Of several labels a row the share that is wrong.
    """
    if record.logits.shape[-1] == 1:
        return (record.logits.squeeze(-1).double() - record.labels.double()).square()
    wrong = (record.logits.argmax(-1) != record.labels).double()
    return wrong.mean(-1) if record.labels.ndim == 2 else wrong


def exit_shapes(scores: Tensor, losses: Tensor, costs: Tensor) -> list[Shape]:
    """The shapes of a recorded pass: one for each price of cost in loss; deterministic.

    Args:
        scores: (E, N).
        losses: Of leaving at each exit, (E, N) float64 (`row_losses`).
        costs: Of leaving at each exit, rising from exit to exit, (E, N) float64.
    """
    finite = scores[:-1][scores[:-1].isfinite()].double()
    if not len(finite) or not bool(losses.max() > losses.min()):
        return []
    order = [row.argsort(stable=True) for row in scores[:-1]]
    some = finite.sort().values[torch.linspace(0, len(finite) - 1, 40).long()].unique().tolist()
    known = [(_mean(losses, exits), _mean(costs, exits), t) for t in some for exits in [replay(scores, t)]]
    dearest = float((losses.max() - losses.min()) / (costs[1:] - costs[:-1]).min())
    found = []
    for price in torch.logspace(-3.0, -0.3, PRICES, dtype=torch.float64).mul(dearest).tolist():
        start = min(known, key=lambda point: point[0] + price * point[1])[2]
        limits = _descend(scores, losses + price * costs, start, order)
        found.append(Shape(tuple(map(_log_odds, limits)), _mean(costs, replay(scores, tuple(limits)))))
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class JointSearch:
    """Thresholds of all exits for a cost or a drop, on one record, from shapes of the same or of another.

    Attributes:
        scores: (E, N).
        costs: Of leaving at each exit, (E, N) float64.
        metric_at: The metric when each sample leaves at its exit (N,), higher is better.
        shapes: From `exit_shapes`.
    """

    scores: Tensor
    costs: Tensor
    metric_at: Callable[[Tensor], float]
    shapes: Sequence[Shape]

    def for_cost(self, most: float) -> Threshold | None:
        """Of the strictest thresholds within a mean cost, those with the best metric; a shared one if none is better.

        None where the fastest shared threshold exceeds the cost.
        """
        best: Threshold | None = threshold_for_cost(self.scores, self.costs, most)
        if best is None:
            return None
        value = self.metric_at(replay(self.scores, best))
        for shape in self._nearest(most):
            one = threshold_for_cost(shape.shared_scores(self.scores), self.costs, most)
            if one is None:
                continue
            exits = replay(self.scores, at := shape.at(one))
            if _mean(self.costs, exits) <= most and (found := self.metric_at(exits)) > value:
                best, value = at, found
        return best

    def for_drop(self, max_drop: float) -> tuple[Shape, Threshold]:
        """Of the fastest thresholds within a drop of the metric, the fastest; a shared one if none is faster."""
        shared = threshold_for_drop(self.scores, self.metric_at, max_drop)
        cost = _mean(self.costs, replay(self.scores, shared))
        best: tuple[Shape, Threshold] = Shape((0.0,) * (len(self.scores) - 1), cost), shared
        least = self.metric_at(replay(self.scores, 0.0)) - max_drop - 1e-6
        for shape in self._nearest(cost):
            one = threshold_for_drop(shape.shared_scores(self.scores), self.metric_at, max_drop, most_candidates=100)
            exits = replay(self.scores, at := shape.at(one))
            if _mean(self.costs, exits) < cost and self.metric_at(exits) >= least:
                best, cost = (shape, at), _mean(self.costs, exits)
        return best

    def _nearest(self, cost: float) -> list[Shape]:
        return sorted(self.shapes, key=lambda shape: abs(math.log(shape.cost / cost)))[:NEAREST]


def search_by_layers(
    record: ExitRecord,
    scores: Tensor,
    exit_layers: Sequence[int],
    metric: str,
    shapes: Sequence[Shape] | None = None,
) -> JointSearch:
    """The search on a record whose costs are the layers run, with the metric of this name; from its own shapes."""

    def metric_at(exits: Tensor) -> float:
        return metric_value(metric, record.logits_at(exits), record.labels, record.queries)

    costs = torch.as_tensor(exit_layers, dtype=torch.float64).unsqueeze(1).expand(-1, len(record.labels))
    own = exit_shapes(scores, row_losses(record), costs) if shapes is None else shapes
    return JointSearch(scores, costs, metric_at, own)


def thresholds_for_drop(
    record: ExitRecord, policy: str, exit_layers: Sequence[int], metric: str, max_drop: float
) -> Threshold:
    """The fastest thresholds of a recorded policy within a drop of the metric; by layers.

    The shape is the one that is fastest within the drop on a third of the rows, and the number is chosen on the others:
    the fastest of many shapes on the rows that they are from would lose more than `max_drop` on others.
    """
    fitting, rest = fitting_rows(record)
    shape, _ = search_by_layers(fitting, fitting.scores[policy], exit_layers, metric).for_drop(max_drop)
    search = search_by_layers(rest, rest.scores[policy], exit_layers, metric, shapes=())
    return shape.at(threshold_for_drop(shape.shared_scores(search.scores), search.metric_at, max_drop))


def _mean(values: Tensor, exits: Tensor) -> float:
    return float(values.gather(0, exits.unsqueeze(0)).mean())


def _log_odds(number: float) -> float:
    return -math.inf if number <= 0.0 else math.inf if number >= 1.0 else math.log(number) - math.log1p(-number)


def _descend(scores: Tensor, values: Tensor, start: float, order: Sequence[Tensor]) -> list[float]:
    """Thresholds (E - 1) at which no change of a single one lowers the mean of `values` (E, N) at the exits taken."""
    limits = [start] * (len(scores) - 1)
    for _ in range(SWEEPS):
        before = list(limits)
        stays = scores[:-1] >= scores.new_tensor(limits).unsqueeze(1)
        reached = torch.cat([torch.ones_like(stays[:1]), stays.cumprod(0).bool()])
        later = values[-1]  # of going on from this exit
        for index in range(len(limits) - 1, -1, -1):
            rows = order[index]
            rows = rows[reached[index, rows] & scores[index, rows].isfinite()]
            limits[index] = _best_cut(scores[index, rows], (values[index] - later)[rows])
            later = torch.where(scores[index] < limits[index], values[index], later)
        if limits == before:
            break
    return limits


def _best_cut(scores: Tensor, gains: Tensor) -> float:
    """The threshold on sorted scores (n,) below which the sum of gains (n,) is smallest; of equals the strictest."""
    sums = torch.cat([gains.new_zeros(1), gains.cumsum(0)])
    sums[1:-1][scores[1:] == scores[:-1]] = math.inf  # equal scores leave together
    cut = int(sums.argmin())
    if cut == 0:
        return 0.0
    if cut == len(scores):
        return LOOSEST
    low, high = scores[cut - 1], scores[cut]
    return float(torch.maximum((low + high) / 2, torch.nextafter(low, high)))
