"""The metrics of tasks, by short name, of recorded rows; `mebert.metrics.collected` has those that training logs.

`acc`, `f1`, `matthews` for classes; `pearson`, `spearman` for regression; `map`, `mrr`, `p_at_1` where rows are ranked
within their questions. The first metric of a task is its main one. Rows of a class below 0 have no label and do not
count. A metric that has no value is NaN (`mebert.metrics.formulas`).

Shapes: N rows, C classes (1 for regression).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.metrics.formulas import CLASS_METRICS, correlation
from mebert.metrics.ranking import RANKING_METRICS, is_relevant, mean_over_questions, ranking_scores

VALUE_METRICS = ("pearson", "spearman")
METRIC_NAMES = (*CLASS_METRICS, *VALUE_METRICS, *RANKING_METRICS)


def check_metric(name: str, num_labels: int) -> None:
    """Refuse a metric that is not known or does not fit; `num_labels` is C."""
    if name not in METRIC_NAMES:
        raise UserError(f"unknown metric {name!r}; use one of: {', '.join(METRIC_NAMES)}")
    if name in RANKING_METRICS and num_labels > 2:
        raise UserError(f"the metric {name!r} needs two classes (the second is 'relevant'), not {num_labels}")
    if name not in RANKING_METRICS and (name in VALUE_METRICS) != (num_labels == 1):
        kind = "regression" if num_labels == 1 else f"{num_labels} classes"
        raise UserError(f"the metric {name!r} does not fit a task with {kind}")


def predictions_of(logits: Tensor) -> Tensor:
    """Logits (..., C) to predicted classes (...), or to the predicted value where C = 1."""
    return logits.squeeze(-1).float() if logits.shape[-1] == 1 else logits.argmax(-1)


def metric_input(name: str, logits: Tensor) -> Tensor:
    """The input of a metric from logits (..., C): predictions (...), or ranking scores (...)."""
    return ranking_scores(logits) if name in RANKING_METRICS else predictions_of(logits)


def labelled_rows(labels: Tensor, num_labels: int) -> Tensor:
    """Which rows (N,) have a label: a class of at least 0; in a regression (C = 1) all."""
    return torch.ones_like(labels, dtype=torch.bool) if num_labels == 1 else labels >= 0


def metric_value(name: str, logits: Tensor, labels: Tensor, queries: Tensor | None = None) -> float:
    """One metric of logits (N, C) and labels (N,).

    `queries` is the question of each row (N,), -1 for rows that are not ranked; the ranking metrics need it.
    """
    num_labels = logits.shape[-1]
    check_metric(name, num_labels)
    known = labelled_rows(labels, num_labels)
    values, labels = metric_input(name, logits)[known], labels[known]
    if name in RANKING_METRICS:
        return float(mean_over_questions(name, values, is_relevant(labels), required_queries(name, queries)[known]))
    if name in VALUE_METRICS:
        return of_values(name, values, labels)
    return of_confusion(name, confusion_matrix(values, labels, num_labels))


def confusion_matrix(predictions: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """How often each (true, predicted) class occurs, (C, C) int64, of rows (N,) with a label."""
    pairs = labels.long() * num_labels + predictions.long()
    return torch.bincount(pairs, minlength=num_labels**2).view(num_labels, num_labels)


def required_queries(name: str, queries: Tensor | None) -> Tensor:
    """The questions of the rows, which the ranking metric `name` needs."""
    if queries is None:
        raise UserError(
            f"the metric {name!r} ranks the candidates of a question, but the data has no questions (query column)"
        )
    return queries


def score_to_choose(value: float | None) -> float:
    """A score by which the largest is chosen: one that is None or NaN ranks last.

    >>> max([math.nan, -0.2, 0.1], key=score_to_choose)
    0.1
    """
    return -math.inf if value is None or math.isnan(value) else float(value)


def of_confusion(name: str, matrix: Tensor) -> float:
    """A metric of classes from a `confusion_matrix` (C, C)."""
    counts = matrix.cpu().double().numpy()
    of_class = np.diagonal(counts), counts.sum(1), counts.sum(0)
    return float(CLASS_METRICS[name](*(c[None] for c in of_class))[0])


def of_values(name: str, predictions: Tensor, labels: Tensor) -> float:
    """A correlation of predicted and true values, (N,) each."""
    x, y = (side.detach().cpu().double().numpy() for side in (predictions, labels))
    return float(correlation(np.ones((1, len(x))), x, y, ranks=name == "spearman")[0])
