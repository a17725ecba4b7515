"""A figure of several runs on the same test rows: its mean over seeds, how far seeds differ, a bootstrap interval.

The interval says what another draw of test rows would change: rows are resampled once for all seeds, and the figure is
averaged over the seeds each time, so that what the seeds have in common is not counted several times. How much another
seed would change is told apart, by the standard deviation over seeds.

Shapes: N rows, C classes, U units (rows or questions), R resamples.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mebert.metrics.bootstrap import bootstrap_values, percentiles
from mebert.metrics.curve import ExitRecord
from mebert.metrics.task import metric_value
from mebert.metrics.weighted import WeightedMetric, mean_of, unit_values, weighted_metric

__all__ = ["Estimate", "Mixture", "estimate", "value"]

Mixture = Sequence[tuple[Tensor, float]]
"""Exits taken (N,) and what the metric there weighs: one point of a curve, or the trapezoids under it."""


@dataclass(frozen=True)
class Estimate:
    """One figure.

    Attributes:
        mean: Over the seeds.
        low: Lower end of the 95 % interval over test rows, or None.
        high: Its upper end, or None.
        deviation: Standard deviation over the seeds; None for one seed.
        seeds: How many.
    """

    mean: float
    low: float | None
    high: float | None
    deviation: float | None
    seeds: int


def value(metric: str, logits: Tensor, labels: Tensor, queries: Tensor | None) -> float:
    """The metric itself; arguments as `unit_values`."""
    units = unit_values(metric, logits, labels, queries)
    return metric_value(metric, logits, labels, queries) if units is None else float(units.mean())


def estimate(metric: str, records: Sequence[ExitRecord], mixtures: Sequence[Mixture]) -> Estimate:
    """The mean over seeds of a weighted sum of the metric at several choices of exits.

    Args:
        metric: Its name.
        records: One a seed.
        mixtures: What is summed, one a seed.
    """
    found = [_mixed(metric, record, mixture) for record, mixture in zip(records, mixtures, strict=True)]
    values, units = [value for value, _, _ in found], [count for _, count, _ in found]
    interval = None
    if all(units):  # else no question can be ranked
        if _same_rows(records):
            drawn = bootstrap_values([weighted for _, _, weighted in found], units[0])
        else:
            each = [bootstrap_values([weighted], count, seed=n) for n, (_, count, weighted) in enumerate(found)]
            drawn = np.concatenate(each)
        interval = percentiles(drawn.mean(0))
    low, high = (interval.low, interval.high) if interval else (None, None)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.mean(values), low, high, deviation, len(values))


def _mixed(metric: str, record: ExitRecord, mixture: Mixture) -> tuple[float, int, WeightedMetric]:
    """The weighted sum on the rows themselves, the number of units, and the sum as a function of their counts."""
    rows = record.labels, record.queries
    logits, weights = [record.logits_at(exits) for exits, _ in mixture], [weight for _, weight in mixture]
    units = [unit_values(metric, each, *rows) for each in logits]
    known = [weight * each for weight, each in zip(weights, units, strict=True) if each is not None]
    if known:  # a sum of means is the mean of the sums
        total = torch.stack(known).sum(0)
        return float(total.mean()), len(total), mean_of(total)
    values = [weight * metric_value(metric, each, *rows) for weight, each in zip(weights, logits, strict=True)]
    parts = [weighted_metric(metric, each, *rows)[1] for each in logits]
    return sum(values), len(record.labels), lambda counts: weights @ np.stack([part(counts) for part in parts])


def _same_rows(records: Sequence[ExitRecord]) -> bool:
    first = records[0]
    return all(torch.equal(r.index, first.index) and torch.equal(r.labels, first.labels) for r in records)
