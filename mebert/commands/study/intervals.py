"""A figure of several runs on the same test rows: its mean over seeds, how far seeds differ, a bootstrap interval.

The interval says what another draw of test rows would change: rows are resampled once for all seeds, and the figure is
averaged over the seeds each time, so that what the seeds have in common is not counted several times. How much another
seed would change is told apart, by the standard deviation over seeds.

Accuracy is a mean over rows and the ranking metrics are means over questions; of these *units* one table of draws
serves all figures. Metrics that are no means (F1, correlations) are resampled by `mebert.metrics.bootstrap`.

Shapes: N rows, C classes, U units, R resamples.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mebert.metrics.bootstrap import RESAMPLES, bootstrap_values, percentiles, resampled_metric
from mebert.metrics.curve import ExitRecord
from mebert.metrics.ranking import RANKING_METRICS, is_relevant, ranking_scores, values_of_questions
from mebert.metrics.task import metric_value

__all__ = ["Estimate", "Mixture", "estimate", "unit_values", "value"]

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


def unit_values(metric: str, logits: Tensor, labels: Tensor, queries: Tensor | None) -> Tensor | None:
    """What the metric is the mean of: (U,) float64, of rows or of questions; None where it is no mean.

    Args:
        metric: Its name.
        logits: (N, C).
        labels: (N,).
        queries: Question of each row (N,), for the ranking metrics.
    """
    if metric == "acc":
        return (logits.argmax(-1) == labels).double()
    if metric in RANKING_METRICS and queries is not None:
        return values_of_questions(metric, ranking_scores(logits), is_relevant(labels), queries)
    return None


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
    units = [_mixed(metric, record, mixture) for record, mixture in zip(records, mixtures, strict=True)]
    known = [u for u in units if u is not None]
    low: float | None = None
    high: float | None = None
    if len(known) == len(units):
        values = [float(u.mean()) for u in known]
        if all(len(u) for u in known):  # else no question can be ranked
            low, high = _interval(_means(known, _same_rows(records)))
    else:
        pairs = list(zip(records, mixtures, strict=True))
        values = [sum(w * _at(metric, record, exits) for exits, w in mixture) for record, mixture in pairs]
        same = _same_rows(records)
        drawn = [_drawn(metric, *pair, seed=0 if same else number) for number, pair in enumerate(pairs)]
        found = percentiles(np.mean(drawn, axis=0))
        low, high = (None, None) if found is None else (found.low, found.high)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.mean(values), low, high, deviation, len(values))


def _mixed(metric: str, record: ExitRecord, mixture: Mixture) -> Tensor | None:
    total: Tensor | None = None
    for exits, weight in mixture:
        units = unit_values(metric, record.logits_at(exits), record.labels, record.queries)
        if units is None:
            return None
        total = weight * units if total is None else total + weight * units
    return total


def _at(metric: str, record: ExitRecord, exits: Tensor) -> float:
    return metric_value(metric, record.logits_at(exits), record.labels, record.queries)


def _same_rows(records: Sequence[ExitRecord]) -> bool:
    first = records[0]
    return all(torch.equal(r.index, first.index) and torch.equal(r.labels, first.labels) for r in records)


def _means(units: Sequence[Tensor], same: bool) -> Tensor:
    """The mean over seeds in each resample, (R,); seeds on other rows are resampled one by one."""
    parts = [torch.stack(list(units)).mean(0)] if same else list(units)
    drawn = [_shares(len(part), RESAMPLES, number) @ part for number, part in enumerate(parts)]
    return torch.stack(drawn).mean(0)


def _interval(means: Tensor) -> tuple[float, float]:
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return low, high


def _drawn(metric: str, record: ExitRecord, mixture: Mixture, seed: int) -> np.ndarray:
    """The weighted sum in each resample, (R,)."""
    at = [resampled_metric(metric, record.logits_at(exits), record.labels, record.queries) for exits, _ in mixture]
    values = bootstrap_values([weighted for _, weighted in at], at[0][0], seed=seed)
    return np.array([weight for _, weight in mixture]) @ values


@lru_cache(maxsize=4)
def _shares(units: int, resamples: int, seed: int) -> Tensor:
    """How often each unit is drawn, as a share: (R, U) float64, rows summing to 1. One draw serves all figures."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(units, (resamples, units), generator=generator)
    counts = torch.zeros(resamples, units, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(counts)) / units
