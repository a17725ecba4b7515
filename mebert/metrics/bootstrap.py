"""Bootstrap intervals and paired tests of two runs on the same rows.

`scipy.stats.bootstrap` draws anew for every figure and cannot draw whole questions; here one table of draws serves all
exits, thresholds and seeds (13 accuracies of 9 815 rows: 0.2 s, one call of SciPy each: 1.3 s).

Shapes: N rows, C classes, U units (rows or questions, see `mebert.metrics.weighted`), R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mebert.metrics.ranking import RANKING_METRICS, ranking_scores
from mebert.metrics.task import required_queries, same_labels
from mebert.metrics.weighted import WeightedMetric, weighted_metric

RESAMPLES = 1000
CHUNK = 4_000_000  # counts that a metric sees at a time


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class McNemar:
    """Result of McNemar's exact test."""

    only_first: int  # rows that only the first run predicts correctly
    only_second: int  # rows that only the second run predicts correctly
    p_value: float  # two-sided


@dataclass(frozen=True)
class Difference:
    """The second run's metric minus the first one's on the same rows."""

    value: float  # on the rows themselves
    interval: Interval | None  # percentile bootstrap; None where no resample has a value
    p_value: float  # two-sided, of the bootstrap


def bootstrap_values(
    metrics: Sequence[WeightedMetric], units: int, rounds: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Metrics from `weighted_metric`, all of the same U units, of the same R resamples: (len(metrics), R)."""
    counts = _counts(units, rounds, seed)
    chunks = np.array_split(counts, min(rounds, math.ceil(counts.size / CHUNK)))
    parts = [np.stack([metric(chunk) for metric in metrics]) for chunk in (c.astype(np.float64) for c in chunks)]
    return np.concatenate(parts, axis=1)


def percentiles(values: np.ndarray, level: float = 0.95) -> Interval | None:
    """The percentile interval of resampled values (R,), NaN left out; None if all of them are NaN.

    Efron and Tibshirani (1993), section 13.3: EXACT.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def bootstrap_intervals(
    metric: str,
    logits: Sequence[Tensor],
    labels: Tensor,
    queries: Tensor | None = None,
    rounds: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval | None]:
    """Percentile bootstrap intervals: how far the metric varies between test sets of this size.

    They do not cover the variation between training seeds. There is one for each of `logits`, the predictions (N, C)
    for the same rows; None where there is nothing to draw, or no resample has a value. Labels (N,) and queries as
    `weighted_metric`.

    >>> import torch
    >>> logits = torch.eye(2)[torch.tensor([0, 1] * 50)]
    >>> bootstrap_intervals("acc", [logits], torch.tensor([0] * 100))
    [Interval(low=0.4, high=0.6, level=0.95)]
    """
    weighted = [weighted_metric(metric, each, labels, queries) for each in logits] if len(labels) else []
    if not weighted or not weighted[0][0]:  # no rows, or no question that can be ranked
        return [None] * len(logits)
    values = bootstrap_values([metric for _, metric in weighted], weighted[0][0], rounds, seed)
    return [percentiles(each) for each in values]


def speedup_interval(
    exits: Tensor,
    exit_layers: Sequence[int],
    queries: Tensor | None = None,
    rounds: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Percentile bootstrap interval of the speed-up by layers of 0-based exits (N,); None without rows.

    Rows are drawn, or whole questions where `queries` (N,) names them: their candidates leave alike.

    >>> import torch
    >>> speedup_interval(torch.tensor([0, 1] * 50), [6, 12])
    Interval(low=1.25, high=1.4285714285714286, level=0.95)
    """
    layers = np.asarray(exit_layers, dtype=np.float64)
    each, rows = layers[exits.cpu().numpy()], np.ones(len(exits))
    if queries is not None:
        units = np.unique(queries.cpu().numpy(), return_inverse=True)[1]
        each, rows = np.bincount(units, each), np.bincount(units).astype(np.float64)
    if not len(rows):
        return None

    def speedup(counts: np.ndarray) -> np.ndarray:
        return layers[-1] * (counts @ rows) / (counts @ each)

    return percentiles(bootstrap_values([speedup], len(rows), rounds, seed)[0])


def mcnemar(first: Tensor, second: Tensor) -> McNemar:
    """McNemar's exact test (1947) of two classifiers on the same rows: EXACT, with the binomial distribution.

    `first` and `second` say which rows each run predicts correctly, (N,) bool.

    >>> import torch
    >>> mcnemar(torch.tensor([1, 1, 1, 1, 1, 0]).bool(), torch.tensor([0, 0, 0, 0, 0, 0]).bool())
    McNemar(only_first=5, only_second=0, p_value=0.0625)
    """
    from scipy.stats import binomtest  # a second of imports

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    total = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, total).pvalue) if total else 1.0)


def paired_bootstrap(
    metric: str,
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    queries: Tensor | None = None,
    rounds: int = RESAMPLES,
) -> Difference:
    """The difference between two runs' logits (N, C) on the same rows, which are drawn together.

    The p-value is that of the percentile interval that just touches 0 (Efron and Tibshirani 1993, section 15.4), two-
    sided and with 1 added to both counts, so that it is never 0: RECONSTRUCTED in that. Labels (N,) and queries as
    `weighted_metric`.
    """
    units, before = weighted_metric(metric, first, labels, queries)
    _, after = weighted_metric(metric, second, labels, queries)
    if not units:
        return Difference(math.nan, None, math.nan)
    once = np.ones((1, units))
    value = float((after(once) - before(once))[0])
    old, new = bootstrap_values([before, after], units, rounds)
    differences = (new - old)[~np.isnan(new - old)]
    differences[np.abs(differences) < 1e-12] = 0.0  # rounding errors are no difference
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return Difference(value, percentiles(differences), min(1.0, 2 * float(tail + 1) / (len(differences) + 1)))


def agreement(metric: str, early: Tensor, full: Tensor, queries: Tensor | None = None) -> float | None:
    """How far early predictions are the full model's, from logits (N, C) each; None for regression, and without rows.

    The share of rows with the same class, or the same set of labels (logits (N, C, 2)). Where the metric is of a
    ranking, classes say nothing of it (most answers are wrong): that of `ranking_agreement`.
    """
    if metric in RANKING_METRICS:
        return ranking_agreement(early, full, required_queries(metric, queries))
    if early.shape[-1] == 1 or not len(early):
        return None
    return float(same_labels(early.argmax(-1), full.argmax(-1)).double().mean())


def ranking_agreement(early: Tensor, full: Tensor, queries: Tensor) -> float | None:
    """Share of the pairs of a question's answers in the same order, mean over questions; None without such a pair.

    A pair that is tied on one side counts half. Without ties (1 + Kendall's tau) / 2. Logits (N, C); `queries` (N,) is
    the question of each row, below 0 for rows that are not ranked.
    """
    order = queries.argsort(stable=True)
    order = order[queries[order] >= 0]
    question = queries[order].unique(return_inverse=True)[1] if len(order) else order
    sides = [ranking_scores(logits)[order] for logits in (early, full)]
    same, pairs = torch.zeros(2, int(question.max()) + 1 if len(order) else 0, dtype=torch.float64)
    apart = 1
    while bool((together := question[apart:] == question[:-apart]).any()):  # as often as a question has answers
        first, second = (torch.sign(side[apart:] - side[:-apart]) for side in sides)
        at = question[apart:][together]
        same.index_add_(0, at, (1 - (first - second).abs() / 2)[together].double())
        pairs.index_add_(0, at, torch.ones(len(at), dtype=torch.float64))
        apart += 1
    return float((same / pairs)[pairs > 0].mean()) if bool((pairs > 0).any()) else None


@lru_cache(maxsize=2)
def _counts(units: int, rounds: int, seed: int) -> np.ndarray:
    """How often each unit was drawn, (R, U), small integers."""
    generator = np.random.default_rng(seed)
    counts = np.empty((rounds, units), dtype=np.int16)
    for row in counts:
        row[:] = np.bincount(generator.integers(units, size=units), minlength=units)
    return counts
