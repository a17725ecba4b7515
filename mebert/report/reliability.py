"""How sure the figures of an evaluation are, and where samples left: for many operating points of one pass at once.

Shapes: E exits, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.at_speed import exits_at_speedup
from mebert.metrics.bootstrap import agreement, bootstrap_intervals
from mebert.metrics.curve import CurvePoint, ExitRecord
from mebert.report.evaluation import Evaluation

__all__ = ["Reliability", "add_reliability", "reliability_of"]


@dataclass(frozen=True)
class Reliability:
    """What is to be known of a figure beside itself.

    Attributes:
        interval: 95 % bootstrap interval of the metric, both ends: what another draw of as many samples would change;
            None where it has no value.
        agreement: Share of the samples whose answer is the full model's; None for regression.
        shares: Share of the samples that left at each exit, (E,) that sum to 1.
    """

    interval: tuple[float, float] | None
    agreement: float | None
    shares: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"interval": self.interval and list(self.interval), "agreement": self.agreement, "shares": self.shares}


def reliability_of(record: ExitRecord, metric: str, exits: Sequence[Tensor]) -> list[Reliability]:
    """One for each way to leave, with intervals as of `bootstrap_intervals`.

    Args:
        record: The pass.
        metric: Name of the metric.
        exits: 0-based exits (N,) each.
    """
    taken = [record.logits_at(each) for each in exits]
    intervals = bootstrap_intervals(metric, taken, record.labels, record.queries)
    count, full = record.num_exits, record.logits[-1]
    return [
        Reliability(
            None if interval is None else (interval.low, interval.high),
            None if logits.shape[-1] == 1 else agreement(logits, full),
            (torch.bincount(each, minlength=count).double() / len(each)).tolist(),
        )
        for each, logits, interval in zip(exits, taken, intervals, strict=True)
    ]


def add_reliability(evaluation: Evaluation, record: ExitRecord) -> None:
    """Fill in the reliability of all operating points, and of every compared policy at each speed.

    Args:
        evaluation: Of the pass; its compared policies, if any, have put their scores into the record.
        record: The pass.
    """
    points: list[CurvePoint] = [point for ps in evaluation.points.values() for point in ps]
    points += [point for point in (evaluation.current, evaluation.oracle) if point is not None]
    exits = [point.exits for point in points]
    places = []
    for name, result in evaluation.policies.items():
        for target in result.at:
            found = exits_at_speedup(record.scores[name], evaluation.exit_layers, target)
            if found is not None:
                places.append((result, target))
                exits.append(found)
    known = reliability_of(record, evaluation.metric, exits)
    for point, one in zip(points, known, strict=False):  # the compared policies come after them
        point.interval, point.agreement, point.shares = one.interval, one.agreement, one.shares
    for (result, target), one in zip(places, known[len(points) :], strict=True):
        result.reliability[target] = one.as_dict()
