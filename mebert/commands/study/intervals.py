"""A figure of several runs on the same test rows: its mean and deviation over seeds, and a bootstrap interval.

The interval says what another draw of test rows would change: rows are resampled once for all seeds, and the figure is
averaged over the seeds in each resample. The standard deviation says what another seed would change.

Shapes: N rows, C classes, R resamples.
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
from mebert.metrics.weighted import mean_of, unit_values, weighted_metric

__all__ = ["Estimate", "Mixture", "estimate", "value"]

Mixture = Sequence[tuple[Tensor, float]]
"""Exits taken (N,) and the weight of the metric there: one point of a curve, or the trapezoids under it."""


@dataclass(frozen=True)
class Estimate:
    """One figure.

    Attributes:
        mean: Over the seeds.
        low: Lower end of the 95 % interval over test rows, or None.
        high: Upper end, or None.
        deviation: Standard deviation over the seeds; None for one seed.
        seeds: Number of seeds.
    """

    mean: float
    low: float | None
    high: float | None
    deviation: float | None
    seeds: int


def value(metric: str, logits: Tensor, labels: Tensor, queries: Tensor | None) -> float:
    """A metric; in float64 where it is a mean over rows or questions.

    Args:
        metric: Its name.
        logits: (N, C).
        labels: (N,).
        queries: Question of each row (N,), for the ranking metrics.
    """
    units = unit_values(metric, logits, labels, queries)
    return metric_value(metric, logits, labels, queries) if units is None else float(units.mean())


def estimate(metric: str, records: Sequence[ExitRecord], mixtures: Sequence[Mixture]) -> Estimate:
    """The mean over seeds of a weighted sum of the metric at several choices of exits.

    Args:
        metric: Its name.
        records: One for each seed.
        mixtures: What is summed, one for each seed.
    """
    first = records[0]
    same = all(torch.equal(r.index, first.index) and torch.equal(r.labels, first.labels) for r in records)
    pairs = enumerate(zip(records, mixtures, strict=True))
    found = [_resampled(metric, record, mixture, 0 if same else number) for number, (record, mixture) in pairs]
    values = [of_seed for of_seed, _ in found]
    interval = percentiles(np.mean([resampled for _, resampled in found], axis=0))
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.mean(values), low, high, deviation, len(values))


def _resampled(metric: str, record: ExitRecord, mixture: Mixture, seed: int) -> tuple[float, np.ndarray]:
    """The weighted sum, and the same in each resample, (R,); NaN where there is nothing to resample."""
    weights = np.array([weight for _, weight in mixture])
    arguments = [(metric, record.logits_at(exits), record.labels, record.queries) for exits, _ in mixture]
    units = [found for each in arguments if (found := unit_values(*each)) is not None]
    if units:  # sums of means are means of sums
        total = torch.stack([weight * of_exits for weight, of_exits in zip(weights, units, strict=True)]).sum(0)
        on_rows, count, parts, weights = float(total.mean()), len(total), [mean_of(total)], np.ones(1)
    else:
        on_rows = float(weights @ [metric_value(*each) for each in arguments])
        count, parts = len(record.labels), [weighted_metric(*each)[1] for each in arguments]
    return on_rows, weights @ bootstrap_values(parts, count, seed=seed) if count else np.full(1, np.nan)
