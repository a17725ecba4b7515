"""How sure a figure is: bootstrap intervals, paired tests of two runs on the same rows, agreement with the full model.

Shapes: N rows, C classes, U units, R resamples. A unit is what is drawn: a row, and for a ranking metric a question
with all its answers, which belong together. A resample is a table of counts (how often each unit was drawn), and every
metric is computed for many of them at once from what it needs of the rows: a mean, a confusion matrix, moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.metrics.ranking import RANKING_METRICS, is_relevant, values_of_questions
from mebert.metrics.task import answers_of
from mebert.metrics.weighted import CONFUSION_METRICS, confusion_metric, weighted_correlation

__all__ = [
    "Difference",
    "Interval",
    "McNemar",
    "agreement",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_values",
    "mcnemar",
    "paired_bootstrap",
    "percentiles",
    "resampled_metric",
]

RESAMPLES = 1000
CHUNK = 4_000_000  # counts held at a time

MetricFn = Callable[[Tensor, Tensor, Tensor | None], float]
"""(logits (N, C), labels (N,), questions (N,) or None) to a number."""

Weighted = Callable[[np.ndarray], np.ndarray]
"""Counts (r, U) to the metric of each resample (r,)."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        level: Its probability.
    """

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class McNemar:
    """The exact test of two runs that were right or wrong on the same rows.

    Attributes:
        only_first: Rows that only the first run has right.
        only_second: Rows that only the second one has right.
        p_value: Two-sided.
    """

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Difference:
    """The second run's metric minus the first one's on the same rows.

    Attributes:
        value: On the rows themselves.
        interval: Percentile bootstrap; None where no resample has a value.
        p_value: Two-sided; of the bootstrap.
    """

    value: float
    interval: Interval | None
    p_value: float


def resampled_metric(
    metric: str | MetricFn, logits: Tensor, labels: Tensor, queries: Tensor | None = None
) -> tuple[int, Weighted]:
    """The number of units, and the metric as a function of how often each was drawn.

    Args:
        metric: One of `mebert.metrics.task.METRIC_NAMES`, or any function of (logits, labels, questions), which is then
            called once a resample; where there are questions, these are its units, and one that is drawn twice counts
            as two. Rows without one (-1) are left out of a ranking.
        logits: (N, C).
        labels: (N,).
        queries: Question of each row (N,), -1 for rows that are not ranked; needed by the ranking metrics.

    Raises:
        UserError: A ranking metric without questions.
    """
    if callable(metric):
        return _any_metric(metric, logits, labels, queries)
    answers = answers_of(metric, logits)
    if metric in RANKING_METRICS:
        if queries is None:
            raise UserError(f"the metric {metric!r} ranks answers to a question, but queries is missing")
        return _mean(values_of_questions(metric, answers, is_relevant(labels), queries))
    if metric == "acc":
        return _mean(answers == labels)
    if metric in ("pearson", "spearman"):
        x, y = answers.double().numpy(), labels.double().numpy()
        return len(x), lambda counts: weighted_correlation(counts, x, y, ranks=metric == "spearman")
    classes = logits.shape[-1]
    cells = torch.nn.functional.one_hot(labels.long() * classes + answers, classes**2).double().numpy()
    return len(labels), lambda counts: confusion_metric(metric, (counts @ cells).reshape(-1, classes, classes))


def bootstrap_values(metrics: Sequence[Weighted], units: int, rounds: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Several metrics of the same resamples: (len(metrics), R).

    Args:
        metrics: From `resampled_metric`, all of the same units.
        units: U, at least 1.
        rounds: R.
        seed: Of the draws; the same seed draws the same units.
    """
    parts = [np.stack([metric(counts) for metric in metrics]) for counts in _counts(units, rounds, seed)]
    return np.concatenate(parts, axis=1)


def percentiles(values: np.ndarray, level: float = 0.95) -> Interval | None:
    """The percentile interval of resampled values (R,); None where none of them is a number.

    Efron and Tibshirani (1993), section 13.3: EXACT.
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def bootstrap_interval(
    metric: str | MetricFn,
    logits: Tensor,
    labels: Tensor,
    queries: Tensor | None = None,
    level: float = 0.95,
    rounds: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """The percentile bootstrap interval of a metric: what another draw of as many test texts would change.

    It says nothing about another seed of training. Arguments as of `resampled_metric` and `bootstrap_values`; None
    where there is nothing to draw, or no resample has a value.

    >>> logits = torch.eye(2)[torch.tensor([0, 1] * 50)]
    >>> bootstrap_interval("acc", logits, torch.tensor([0] * 100))
    Interval(low=0.4, high=0.6, level=0.95)
    """
    return bootstrap_intervals(metric, [logits], labels, queries, level, rounds, seed)[0]


def bootstrap_intervals(
    metric: str | MetricFn,
    answers: Sequence[Tensor],
    labels: Tensor,
    queries: Tensor | None = None,
    level: float = 0.95,
    rounds: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval | None]:
    """`bootstrap_interval` of several logits (N, C) for the same rows, with little more work than one.

    A metric of classes knows rows only by label and prediction: to draw rows is to draw such pairs, as often as they
    occur, from a multinomial distribution. So its cost does not grow with the rows.
    """
    if not len(labels):
        return [None] * len(answers)
    if metric in CONFUSION_METRICS:
        drawn = [_draw_cells(str(metric), logits, labels, rounds, seed) for logits in answers]
        return [percentiles(values, level) for values in drawn]
    resampled = [resampled_metric(metric, logits, labels, queries) for logits in answers]
    if not resampled or not resampled[0][0]:  # nothing can be ranked
        return [None] * len(answers)
    values = bootstrap_values([weighted for _, weighted in resampled], resampled[0][0], rounds, seed)
    return [percentiles(each, level) for each in values]


def mcnemar(first: Tensor, second: Tensor) -> McNemar:
    """McNemar's exact test: of the rows that only one run has right, does each have half?

    McNemar (1947) with the binomial distribution in place of its approximation: EXACT. p = min(1, 2 P(X <= the smaller
    number)) with X binomial over both numbers and 1/2.

    Args:
        first: Whether the first run is right, (N,) bool.
        second: Whether the second one is, (N,) bool.

    >>> mcnemar(torch.tensor([1, 1, 1, 1, 1, 0]).bool(), torch.tensor([0, 0, 0, 0, 0, 0]).bool())
    McNemar(only_first=5, only_second=0, p_value=0.0625)
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    total, fewer = only_first + only_second, min(only_first, only_second)
    ways = term = 1  # whole numbers, so that nothing is rounded before the end
    for k in range(1, fewer + 1):
        term = term * (total - k + 1) // k
        ways += term
    return McNemar(only_first, only_second, min(1.0, 2 * ways / 2**total))


def paired_bootstrap(
    metric: str | MetricFn,
    first: Tensor,
    second: Tensor,
    labels: Tensor,
    queries: Tensor | None = None,
    level: float = 0.95,
    rounds: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The difference between two runs on the same rows, which are drawn together.

    The p-value is that of the percentile interval that just touches 0 (Efron and Tibshirani 1993, section 15.4),
    two-sided and with 1 added to both counts, so that it is never 0: RECONSTRUCTED in that.

    Args:
        metric: As `resampled_metric`.
        first: Logits (N, C) of the first run.
        second: Of the second one.
        labels: (N,).
        queries: As `resampled_metric`.
        level: Of the interval.
        rounds: R.
        seed: Of the draws.
    """
    units, before = resampled_metric(metric, first, labels, queries)
    _, after = resampled_metric(metric, second, labels, queries)
    once = np.ones((1, units))
    value = float((after(once) - before(once))[0]) if units else math.nan
    if not units:
        return Difference(value, None, math.nan)
    old, new = bootstrap_values([before, after], units, rounds, seed)
    differences = (new - old)[~np.isnan(new - old)]
    # What both runs have in common must not count by the last bit.
    differences[np.abs(differences) < 1e-12] = 0.0
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return Difference(value, percentiles(differences, level), min(1.0, 2 * float(tail + 1) / (len(differences) + 1)))


def agreement(early: Tensor, full: Tensor) -> float:
    """Share of the samples whose early answer is the full model's.

    Args:
        early: Logits (N, C) at the exits taken; C at least 2.
        full: Logits (N, C) of the last exit.
    """
    return float((early.argmax(-1) == full.argmax(-1)).double().mean())


def _counts(units: int, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit was drawn, some resamples at a time: (r, U) float64."""
    generator = np.random.default_rng(seed)
    size = max(1, CHUNK // units)
    for start in range(0, rounds, size):
        number = min(size, rounds - start)
        drawn = generator.integers(units, size=(number, units)) + np.arange(number)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=number * units).reshape(number, units).astype(np.float64)


def _draw_cells(metric: str, logits: Tensor, labels: Tensor, rounds: int, seed: int) -> np.ndarray:
    """A metric of classes on resampled rows, (R,)."""
    classes = logits.shape[-1]
    cells = np.bincount((labels.long() * classes + logits.argmax(-1)).numpy(), minlength=classes**2)
    drawn = np.random.default_rng(seed).multinomial(len(labels), cells / len(labels), size=rounds)
    return confusion_metric(metric, drawn.reshape(-1, classes, classes).astype(np.float64))


def _mean(values: Tensor) -> tuple[int, Weighted]:
    known = values.double().numpy()
    return len(known), lambda counts: counts @ known / counts.sum(1)


def _any_metric(metric: MetricFn, logits: Tensor, labels: Tensor, queries: Tensor | None) -> tuple[int, Weighted]:
    """One call a resample, on the rows that were drawn."""
    rows_of = list(torch.arange(len(labels)).unsqueeze(1))
    if queries is not None:
        rows_of = [(queries == query).nonzero().squeeze(-1) for query in queries[queries >= 0].unique()]

    def of_one(counts: np.ndarray) -> float:
        units = np.repeat(np.arange(len(rows_of)), counts.astype(int))
        rows = torch.cat([rows_of[unit] for unit in units])
        again = None
        if queries is not None:
            sizes = torch.tensor([len(rows_of[unit]) for unit in units])
            again = torch.arange(len(units)).repeat_interleave(sizes)  # drawn twice, it is two questions
        return metric(logits[rows], labels[rows], again)

    return len(rows_of), lambda counts: np.array([of_one(row) for row in counts])
