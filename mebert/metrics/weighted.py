"""Metrics of resampled rows, as functions of how often each unit was drawn, for many resamples at once.

A unit is what is drawn: a row, or for a ranking metric a question with all its candidates, which belong together. A
resample is a row of counts, one for each unit, and its metric that of `mebert.metrics.task` on the rows so repeated.
SciPy and scikit-learn compute F1 and the correlations for one resample at a time, which takes seconds for each exit.

Shapes: N rows, C classes, U units, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.metrics.ranking import RANKING_METRICS, is_relevant, values_of_questions
from mebert.metrics.task import metric_input

WeightedMetric = Callable[[np.ndarray], np.ndarray]
"""Counts (R, U) to the metric of each resample (R,)."""


def unit_values(metric: str, logits: Tensor, labels: Tensor, queries: Tensor | None = None) -> Tensor | None:
    """The values (U,) float64 whose mean is the metric, of rows or of questions; None if the metric is not a mean.

    Logits (N, C), labels (N,); queries (N,), the question of each row, -1 for rows that are not ranked, are required by
    the ranking metrics (UserError).
    """
    if metric == "acc":
        return (metric_input(metric, logits) == labels).double()
    if metric not in RANKING_METRICS:
        return None
    if queries is None:
        raise UserError(f"the metric {metric!r} ranks the candidates of a question and needs `queries`")
    return values_of_questions(metric, metric_input(metric, logits), is_relevant(labels), queries)


def weighted_metric(
    metric: str, logits: Tensor, labels: Tensor, queries: Tensor | None = None
) -> tuple[int, WeightedMetric]:
    """The number of units U, and the metric as a function of their counts. Arguments and errors as `unit_values`."""
    values = unit_values(metric, logits, labels, queries)
    if values is not None:
        return len(values), mean_of(values)
    predictions = metric_input(metric, logits)
    if metric in ("pearson", "spearman"):
        x, y = predictions.double().numpy(), labels.double().numpy()
        return len(labels), lambda counts: _correlation(counts, x, y, ranks=metric == "spearman")
    labelled, predicted = (torch.nn.functional.one_hot(c.long(), logits.shape[-1]) for c in (labels, predictions))
    columns = torch.cat([labelled * predicted, labelled, predicted], dim=1).double().numpy()
    finish = _f1 if metric == "f1" else _matthews
    return len(labels), lambda counts: finish(*np.split(counts @ columns, 3, axis=1))


def mean_of(values: Tensor) -> WeightedMetric:
    """The mean of the values (U,) of the units that were drawn."""
    known = values.double().numpy()
    return lambda counts: counts @ known / counts.sum(1)


def _f1(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """F1 (R,) of class 1 for two classes, else the mean over the classes that occur; how often each, (R, C)."""
    both = labels + predictions
    values = np.divide(2 * correct, both, out=np.zeros_like(both), where=both > 0)
    return values[:, 1] if both.shape[1] == 2 else values.sum(1) / (both > 0).sum(1)


def _matthews(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Matthews' correlation (R,); 0 if all predictions are equal (torchmetrics: nearly 0). Arguments as `_f1`."""
    total, right = labels.sum(1), correct.sum(1)
    covariance = right * total - (labels * predictions).sum(1)
    spread = (total**2 - (labels**2).sum(1)) * (total**2 - (predictions**2).sum(1))
    values = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)
    if labels.shape[1] == 2:  # as torchmetrics where the formula is 0 / 0
        values[right == total] = 1.0
        values[right == 0] = -1.0
    return values


def _correlation(counts: np.ndarray, x: np.ndarray, y: np.ndarray, ranks: bool) -> np.ndarray:
    """Pearson's correlation (R,) of x and y (N,), or Spearman's with `ranks`; NaN where one of them is constant."""
    total = counts.sum(1, keepdims=True)
    sides = [_ranks(counts, side) if ranks else np.broadcast_to(side, counts.shape) for side in (x, y)]
    a, b = (side - (counts * side).sum(1, keepdims=True) / total for side in sides)
    products = [(counts * p).sum(1) for p in (a * b, a * a, b * b)]
    spread = np.sqrt(products[1] * products[2])
    return np.divide(products[0], spread, out=np.full_like(spread, np.nan), where=spread > 1e-12)


def _ranks(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank of each row among the repeated rows, (R, N); equal values share the mean of their ranks."""
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]
