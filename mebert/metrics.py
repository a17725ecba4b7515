"""The metrics that tasks ask for, by short name, all from torchmetrics.

`acc`, `f1`, `matthews` for classes; `pearson`, `spearman` for regression. The first metric of a task is its main one.
"""

from __future__ import annotations

import torchmetrics
from torch import Tensor
from torchmetrics import classification, regression

from mebert.errors import UserError

__all__ = ["METRIC_NAMES", "make_metric", "metric_value", "predictions_of"]

METRIC_NAMES = ("acc", "f1", "matthews", "pearson", "spearman")


def make_metric(name: str, num_labels: int) -> torchmetrics.Metric:
    """A fresh metric that takes (predictions, targets), both (N,).

    Args:
        name: One of `METRIC_NAMES`. `f1` is that of class 1 for two classes, as in GLUE, else the macro average.
        num_labels: C; 1 for regression.

    Raises:
        UserError: Unknown name, or a metric of classes asked for in regression (or the reverse).
    """
    if name not in METRIC_NAMES:
        raise UserError(f"unknown metric {name!r}; use one of: {', '.join(METRIC_NAMES)}")
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


def metric_value(name: str, logits: Tensor, labels: Tensor) -> float:
    """One metric of N predictions at once.

    Args:
        name: One of `METRIC_NAMES`.
        logits: (N, C).
        labels: (N,).
    """
    metric = make_metric(name, logits.shape[-1])
    targets = labels.float() if logits.shape[-1] == 1 else labels
    metric.update(predictions_of(logits), targets)
    return float(metric.compute())
