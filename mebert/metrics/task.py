"""The metrics of tasks, by short name, as torchmetrics.

`acc`, `f1`, `matthews` for classes; `pearson`, `spearman` for regression; `map`, `mrr`, `p_at_1` where rows are ranked
within their questions. The first metric of a task is its main one.
"""

from __future__ import annotations

import torchmetrics
from torch import Tensor
from torchmetrics import classification, regression

from mebert.errors import UserError
from mebert.metrics.ranking import RANKING_METRICS, QuestionRanking, is_relevant, mean_over_questions, ranking_scores

METRIC_NAMES = ("acc", "f1", "matthews", "pearson", "spearman", *RANKING_METRICS)


def make_metric(name: str, num_labels: int) -> torchmetrics.Metric:
    """A new metric, for `update_metric`; `num_labels` is C, 1 for regression.

    `f1` is that of class 1 for two classes, as in GLUE, else the macro average. A metric that does not fit is a
    UserError.
    """
    if name not in METRIC_NAMES:
        raise UserError(f"unknown metric {name!r}; use one of: {', '.join(METRIC_NAMES)}")
    if name in RANKING_METRICS:
        if num_labels > 2:
            raise UserError(f"the metric {name!r} needs two classes (the second is 'relevant'), not {num_labels}")
        return QuestionRanking(name)
    if (name in ("pearson", "spearman")) != (num_labels == 1):
        kind = "regression" if num_labels == 1 else f"{num_labels} classes"
        raise UserError(f"the metric {name!r} does not fit a task with {kind}")
    if name == "acc":
        return classification.MulticlassAccuracy(num_labels, average="micro")
    if name == "f1":
        return classification.BinaryF1Score() if num_labels == 2 else classification.MulticlassF1Score(num_labels)
    if name == "matthews":
        return classification.MulticlassMatthewsCorrCoef(num_labels)
    return regression.PearsonCorrCoef() if name == "pearson" else regression.SpearmanCorrCoef()


def predictions_of(logits: Tensor) -> Tensor:
    """Logits (..., C) to predicted classes (...), or to the predicted value where C = 1."""
    return logits.squeeze(-1).float() if logits.shape[-1] == 1 else logits.argmax(-1)


def metric_input(name: str, logits: Tensor) -> Tensor:
    """The input of a metric from logits (..., C): predictions (...), or ranking scores (...)."""
    return ranking_scores(logits) if name in RANKING_METRICS else predictions_of(logits)


def update_metric(
    metric: torchmetrics.Metric, values: Tensor, labels: Tensor, queries: Tensor | None, regression: bool
) -> None:
    """Update a metric from `make_metric`; `regression` is C = 1.

    `values` (N,) are from `metric_input`, `queries` (N,) as in `metric_value`.
    """
    if isinstance(metric, QuestionRanking):
        metric.update(values, is_relevant(labels), _required(queries, metric.name))
    elif len(labels):  # torchmetrics does not take none
        metric.update(values, labels.float() if regression else labels)


def metric_value(name: str, logits: Tensor, labels: Tensor, queries: Tensor | None = None) -> float:
    """One metric of logits (N, C) and labels (N,); NaN for a ranking metric where no question has a relevant row.

    `queries` is the question of each row (N,), -1 for rows that are not ranked; the ranking metrics need it.
    """
    values = metric_input(name, logits)
    metric = make_metric(name, logits.shape[-1])
    if isinstance(metric, QuestionRanking):  # without the metric's own bookkeeping, which is slower than the sum itself
        return float(mean_over_questions(name, values, is_relevant(labels), _required(queries, name)))
    update_metric(metric, values, labels, queries, logits.shape[-1] == 1)
    return float(metric.compute())


def _required(queries: Tensor | None, name: str) -> Tensor:
    if queries is None:
        raise UserError(
            f"the metric {name!r} ranks the candidates of a question, but the data has no questions (query column)"
        )
    return queries
