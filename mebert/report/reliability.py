"""Intervals, agreement and shares of exits, for many operating points of one pass at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from mebert.metrics.at_speed import exits_at_speedup
from mebert.metrics.bootstrap import agreement, bootstrap_intervals, speedup_interval
from mebert.metrics.curve import ExitRecord
from mebert.report.evaluation import Evaluation


@dataclass(frozen=True)
class Reliability:
    """How reliable a metric is, and where the samples left."""

    interval: tuple[float, float] | None  # 95 % bootstrap interval; None where the metric has no value
    agreement: float | None  # with the full model (`mebert.metrics.bootstrap.agreement`); None for regression
    shares: list[float]  # of the samples that left at each exit, (E,) that sum to 1


def reliability_of(
    record: ExitRecord, metric: str, exits: Sequence[Tensor], policies: Sequence[str] = ()
) -> list[Reliability]:
    """The reliability of the metric at some choices of 0-based exits, (N,) each, by policies that may answer."""
    names = policies or [""] * len(exits)
    taken = [record.answered_by(name).logits_at(each) for name, each in zip(names, exits, strict=True)]
    intervals = bootstrap_intervals(metric, taken, record.labels, record.queries)
    return [
        Reliability(
            None if interval is None else (interval.low, interval.high),
            agreement(metric, logits, record.logits[-1], record.queries),
            (torch.bincount(each, minlength=record.num_exits).double() / len(each)).tolist(),
        )
        for each, logits, interval in zip(exits, taken, intervals, strict=True)
    ]


def add_reliability(evaluation: Evaluation, record: ExitRecord) -> None:
    """Fill in the reliability of all operating points, their speed-ups too, and of compared policies at each speed."""
    points = [point for ps in evaluation.points.values() for point in ps]
    points += [point for point in (evaluation.full, evaluation.current, evaluation.oracle) if point is not None]
    exits, names = [point.exits for point in points], [point.policy for point in points]
    places = []
    for name, result in evaluation.policies.items():
        for target in result.at:
            found = exits_at_speedup(record.scores[name], evaluation.exit_layers, target)
            if found is not None:
                places.append((result, target))
                exits.append(found)
                names.append(name)
    known = reliability_of(record, evaluation.metric, exits, names)
    for point, one in zip(points, known, strict=False):  # those of the compared policies follow
        point.interval, point.agreement, point.shares = one.interval, one.agreement, one.shares
        ends = speedup_interval(point.exits, evaluation.exit_layers, record.queries)
        point.speedup_interval = None if ends is None else (ends.low, ends.high)
    for (result, target), one in zip(places, known[len(points) :], strict=True):
        result.reliability[target] = asdict(one)
