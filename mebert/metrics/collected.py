"""The metrics of tasks as torchmetrics, which collect rows over batches and processes; only a trainer needs them.

Shapes: N rows, C classes (1 for regression).
"""

from __future__ import annotations

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.retrieval import RetrievalMAP, RetrievalMRR, RetrievalPrecision
from torchmetrics.retrieval.base import RetrievalMetric
from torchmetrics.utilities import dim_zero_cat

from mebert.metrics.ranking import RANKING_METRICS, is_relevant, ranked_rows, ranks_of
from mebert.metrics.task import (
    VALUE_METRICS,
    check_metric,
    label_counts,
    labelled_rows,
    of_confusion,
    of_label_counts,
    of_values,
    required_queries,
    same_labels,
)


def make_metric(name: str, num_labels: int, multi_label: bool = False) -> torchmetrics.Metric:
    """A new metric, for `update_metric`; arguments and errors as `check_metric`.

    `f1` is that of class 1 for two classes, as in GLUE, else the macro average.
    """
    check_metric(name, num_labels, multi_label)
    if multi_label:
        return LabelMetric(name, num_labels)
    if name in RANKING_METRICS:
        return QuestionRanking(name)
    return ValueMetric(name) if name in VALUE_METRICS else ClassMetric(name, num_labels)


class ClassMetric(MulticlassConfusionMatrix):
    """A metric of `CLASS_METRICS`, from torchmetrics' confusion matrix of C classes."""

    higher_is_better = True

    def __init__(self, name: str, num_labels: int) -> None:
        super().__init__(num_labels, ignore_index=-1)
        self.name = name

    def compute(self) -> Tensor:
        """The metric of all rows, a scalar."""
        return _scalar(of_confusion(self.name, self.confmat), self.device)


class LabelMetric(torchmetrics.Metric):
    """A metric of several labels a row, from counts of each of C labels and of rows."""

    full_state_update = False
    higher_is_better = True
    counts: Tensor
    rows: Tensor

    def __init__(self, name: str, num_labels: int) -> None:
        super().__init__()
        self.name = name
        self.add_state("counts", torch.zeros(3, num_labels, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state(
            "rows", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum"
        )  # with all labels right, and all

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Add rows: sets of labels (N, C) of 0 and 1."""
        self.counts += label_counts(predictions, labels)
        self.rows += torch.stack([same_labels(predictions, labels).sum(), self.rows.new_tensor(len(labels))])

    def compute(self) -> Tensor:
        """The metric of all rows, a scalar; NaN without rows."""
        right, rows = self.rows.tolist()
        value = (
            right / rows if self.name == "acc" and rows else of_label_counts(self.name, self.counts) if rows else None
        )
        return _scalar(float("nan") if value is None else value, self.device)


class ValueMetric(torchmetrics.Metric):
    """A correlation of predicted and true values, which are stored and joined over all processes."""

    full_state_update = False
    higher_is_better = True
    predictions: list[Tensor]
    labels: list[Tensor]

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        for state in ("predictions", "labels"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Add rows (N,)."""
        self.predictions.append(predictions.float())
        self.labels.append(labels.float())

    def compute(self) -> Tensor:
        """The metric of all rows, a scalar."""
        rows = [dim_zero_cat(x) if len(x) else torch.zeros(0) for x in (self.predictions, self.labels)]
        return _scalar(of_values(self.name, *rows), self.device)


class QuestionRanking(torchmetrics.Metric):
    """torchmetrics' retrieval metric over rows that are stored and joined over all processes.

    torchmetrics gets ranks instead of scores, so that ties are broken as in `mean_over_questions`.

    Args:
        name: One of `RANKING_METRICS`.
    """

    full_state_update = False
    higher_is_better = True
    scores: list[Tensor]
    relevant: list[Tensor]
    queries: list[Tensor]

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        for state in ("scores", "relevant", "queries"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, relevant: Tensor, queries: Tensor) -> None:
        """Add rows (N,), including those without a question (below 0); arguments as `mean_over_questions`."""
        self.scores.append(scores.float())
        self.relevant.append(relevant)
        self.queries.append(queries)

    def compute(self) -> Tensor:
        """The metric of all rows, a scalar; NaN where no question can be ranked."""
        nothing = torch.tensor(float("nan"), device=self.device)
        if not len(self.scores):
            return nothing
        relevant, queries = ranked_rows(*(dim_zero_cat(s) for s in (self.scores, self.relevant, self.queries)))
        if not relevant.any():
            return nothing
        ranks, _ = ranks_of(queries)
        metric = _retrieval_metric(self.name).to(self.device)
        # From 1 down towards 0: torchmetrics leaves negative scores out.
        return metric(1.0 / ranks, relevant.long(), indexes=queries).float()


def _retrieval_metric(name: str) -> RetrievalMetric:
    """A new metric of torchmetrics; questions without a relevant row do not count."""
    if name == "p_at_1":
        return RetrievalPrecision(top_k=1, empty_target_action="skip", sync_on_compute=False)
    return {"map": RetrievalMAP, "mrr": RetrievalMRR}[name](empty_target_action="skip", sync_on_compute=False)


def update_metric(
    metric: torchmetrics.Metric, values: Tensor, labels: Tensor, queries: Tensor | None, regression: bool
) -> None:
    """Update a metric from `make_metric`; `regression` is C = 1.

    `values` (N,) are from `metric_input` (of several labels a row (N, C)), `queries` (N,) as in `metric_value`.
    """
    known = labelled_rows(labels, 1 if regression else 2)
    values, labels = values[known], labels[known]
    if isinstance(metric, QuestionRanking):
        metric.update(values, is_relevant(labels), required_queries(metric.name, queries)[known])
    elif len(labels):  # torchmetrics does not take none
        metric.update(values, labels)


def _scalar(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float32, device=device)
