"""Metrics of resampled rows, as functions of how often each unit was drawn, for many resamples at once.

A unit is what is drawn: a labelled row, or for a ranking metric a question with all its candidates, which belong
together. A resample is a row of counts, one for each unit, and its metric that of `mebert.metrics.task` on the rows so
repeated.

Shapes: N rows, C classes, U units, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mebert.metrics.formulas import CLASS_METRICS, LABEL_METRICS, correlation
from mebert.metrics.ranking import RANKING_METRICS, is_relevant, values_of_questions
from mebert.metrics.task import VALUE_METRICS, labelled_rows, metric_input, required_queries, same_labels

WeightedMetric = Callable[[np.ndarray], np.ndarray]
"""Counts (R, U) to the metric of each resample (R,)."""


def unit_values(metric: str, logits: Tensor, labels: Tensor, queries: Tensor | None = None) -> Tensor | None:
    """The values (U,) float64 whose mean is the metric, of rows or of questions; None if the metric is not a mean.

    Logits (N, C), labels (N,) (or (N, C, 2) and (N, C)); queries (N,), the question of each row, -1 for rows that are
    not ranked, are required by the ranking metrics (UserError).
    """
    known = labelled_rows(labels, logits.shape[-1])
    values, labels = metric_input(metric, logits)[known], labels[known]
    if metric == "acc":
        return same_labels(values, labels).double()
    if metric not in RANKING_METRICS:
        return None
    return values_of_questions(metric, values, is_relevant(labels), required_queries(metric, queries)[known])


def weighted_metric(
    metric: str, logits: Tensor, labels: Tensor, queries: Tensor | None = None
) -> tuple[int, WeightedMetric]:
    """The number of units U, and the metric as a function of their counts. Arguments and errors as `unit_values`."""
    values = unit_values(metric, logits, labels, queries)
    if values is not None:
        return len(values), mean_of(values)
    known = labelled_rows(labels, logits.shape[-1])
    predictions, labels = metric_input(metric, logits)[known], labels[known]
    if metric in VALUE_METRICS:
        x, y = predictions.double().numpy(), labels.double().numpy()
        return len(labels), lambda counts: correlation(counts, x, y, ranks=metric == "spearman")
    labelled, predicted = labels, predictions
    if labels.ndim == 1:
        labelled, predicted = (torch.nn.functional.one_hot(c.long(), logits.shape[-1]) for c in (labels, predictions))
    columns = torch.cat([labelled * predicted, labelled, predicted], dim=1).double().numpy()
    formula = CLASS_METRICS[metric] if labels.ndim == 1 else LABEL_METRICS[metric]
    return len(labels), lambda counts: formula(*np.split(counts @ columns, 3, axis=1))


def mean_of(values: Tensor) -> WeightedMetric:
    """The mean of the values (U,) of the units that were drawn; NaN where none was."""
    known = values.double().numpy()

    def mean(counts: np.ndarray) -> np.ndarray:
        total = counts.sum(1)
        return np.divide(counts @ known, total, out=np.full(total.shape, np.nan), where=total > 0)

    return mean
