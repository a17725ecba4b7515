"""The metrics of tasks, by short name, of recorded rows; `mebert.metrics.collected` has those that training logs.

`acc`, `f1`, `matthews` for classes; `pearson`, `spearman` for regression; `f1_micro`, `f1_macro` and `acc` (all labels
of a row right) for several labels a row; `map`, `mrr`, `p_at_1` where rows are ranked within their questions. The first
metric of a task is its main one. Rows of a class below 0 have no label and do not count. A metric that has no value is
NaN (`mebert.metrics.formulas`).

Shapes: N rows, C classes (1 for regression). With several labels a row, labels are (N, C), 0 or 1, and logits (N, C,
    2).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mebert.choices import ProblemType
from mebert.errors import UserError
from mebert.metrics.formulas import CLASS_METRICS, LABEL_METRICS, correlation
from mebert.metrics.ranking import RANKING_METRICS, is_relevant, mean_over_questions, ranking_scores

VALUE_METRICS = ("pearson", "spearman")
METRIC_NAMES = (*CLASS_METRICS, *VALUE_METRICS, *LABEL_METRICS, *RANKING_METRICS)

USUAL_METRICS: dict[ProblemType, tuple[str, ...]] = {
    "single_label_classification": ("acc",),
    "multi_label_classification": tuple(LABEL_METRICS),
    "regression": VALUE_METRICS,
}
"""What is measured where nobody asks for other metrics, the main one first."""


def check_metric(name: str, num_labels: int, multi_label: bool = False) -> None:
    """Refuse a metric that is not known or does not fit; `num_labels` is C."""
    if name not in METRIC_NAMES:
        raise UserError(f"unknown metric {name!r}; use one of: {', '.join(METRIC_NAMES)}")
    if multi_label:
        if name not in (*LABEL_METRICS, "acc"):
            use = ", ".join((*LABEL_METRICS, "acc"))
            raise UserError(f"the metric {name!r} does not fit rows of several labels; use one of: {use}")
        return
    if name in LABEL_METRICS:
        raise UserError(f"the metric {name!r} is for rows of several labels, and these have one; use f1 or acc")
    if name in RANKING_METRICS and num_labels > 2:
        raise UserError(f"the metric {name!r} needs two classes (the second is 'relevant'), not {num_labels}")
    if name not in RANKING_METRICS and (name in VALUE_METRICS) != (num_labels == 1):
        kind = "regression" if num_labels == 1 else f"{num_labels} classes"
        raise UserError(f"the metric {name!r} does not fit a task with {kind}")


def predictions_of(logits: Tensor) -> Tensor:
    """Logits (..., C) to predicted classes (...), to the predicted value where C = 1; (..., C, 2) to 0 or 1 a label."""
    return logits.squeeze(-1).float() if logits.shape[-1] == 1 else logits.argmax(-1)


def probabilities_of(logits: Tensor, problem_type: ProblemType) -> Tensor:
    """The probability of each class of logits (..., C), or each label of (..., C, 2), (..., C); or the value itself."""
    if problem_type == "regression":
        return logits
    shares = logits.softmax(-1)
    return shares[..., 1] if problem_type == "multi_label_classification" else shares


def metric_input(name: str, logits: Tensor) -> Tensor:
    """The input of a metric from logits (..., C): predictions (...), or ranking scores (...)."""
    return ranking_scores(logits) if name in RANKING_METRICS else predictions_of(logits)


def labelled_rows(labels: Tensor, num_labels: int) -> Tensor:
    """Which rows (N,) have a label: a class of at least 0; in a regression (C = 1), and with several labels, all."""
    if labels.ndim == 2:
        return torch.ones_like(labels[:, 0], dtype=torch.bool)
    return torch.ones_like(labels, dtype=torch.bool) if num_labels == 1 else labels >= 0


def metric_value(name: str, logits: Tensor, labels: Tensor, queries: Tensor | None = None) -> float:
    """One metric of logits (N, C) and labels (N,).

    `queries` is the question of each row (N,), -1 for rows that are not ranked; the ranking metrics need it.
    """
    num_labels = logits.shape[-1]
    if labels.ndim == 2:
        check_metric(name, labels.shape[1], multi_label=True)
        return of_label_sets(name, predictions_of(logits), labels)
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
            f"the metric {name!r} ranks the documents of a query, but the data has no queries (query_column)"
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


def label_counts(predictions: Tensor, labels: Tensor) -> Tensor:
    """How often each label was predicted rightly, occurs, and was predicted, (3, C) int64, of sets (N, C) of 0, 1."""
    return torch.stack([(predictions * labels).sum(0), labels.sum(0), predictions.sum(0)]).long()


def of_label_counts(name: str, counts: Tensor) -> float:
    """A metric of several labels a row from `label_counts` (3, C)."""
    return float(LABEL_METRICS[name](*(count[None] for count in counts.cpu().double().numpy()))[0])


def of_label_sets(name: str, predictions: Tensor, labels: Tensor) -> float:
    """A metric of predicted and true sets of labels, (N, C) each of 0 and 1; NaN without rows."""
    if not len(labels):
        return math.nan
    if name == "acc":
        return float(same_labels(predictions, labels).double().mean())
    return of_label_counts(name, label_counts(predictions, labels))


def same_labels(one: Tensor, two: Tensor) -> Tensor:
    """Which rows have the same class, of (..., N), or the same set of labels, of (..., N, C) where `two` is (N, C)."""
    same = one == two
    return same.all(-1) if two.ndim == 2 else same


def of_values(name: str, predictions: Tensor, labels: Tensor) -> float:
    """A correlation of predicted and true values, (N,) each."""
    x, y = (side.detach().cpu().double().numpy() for side in (predictions, labels))
    return float(correlation(np.ones((1, len(x))), x, y, ranks=name == "spearman")[0])
