"""Precision, recall, F1 and support of each class, and the confusion matrix.

Shapes: N rows, C classes; of several labels a row (N, C) labels and (N, C, 2) logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mebert.metrics.formulas import of_classes
from mebert.metrics.task import confusion_matrix, label_counts, labelled_rows, predictions_of


@dataclass(frozen=True)
class ClassScores:
    """One class; a figure without anything to divide by is 0, as in scikit-learn."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int  # rows of this class


@dataclass(frozen=True)
class ClassReport:
    """All classes of one pass at one point."""

    classes: list[ClassScores]  # (C,)
    # (C, C): rows are the true classes, columns the predicted ones, as in scikit-learn. Of several labels a row it is
    # (C, 2, 2), for each label that of without and with it (`multilabel_confusion_matrix` there).
    matrix: list[Any]

    @property
    def multi_label(self) -> bool:
        """Whether rows have several labels, each with a matrix of its own."""
        return bool(self.matrix) and isinstance(self.matrix[0][0], list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"classes": [vars(one) for one in self.classes], "confusion_matrix": self.matrix}


def class_report(logits: Tensor, labels: Tensor, label_names: Sequence[str]) -> ClassReport:
    """The classes of logits (N, C) and labels (N,); rows of a class below 0 have no label and do not count."""
    if labels.ndim == 2:
        counts = label_counts(predictions_of(logits), labels)
        both, there, said = counts
        cells = [len(labels) - there - said + both, said - both, there - both, both]
        return _report(counts.numpy(), label_names, torch.stack(cells, 1).view(-1, 2, 2).tolist())
    known = labelled_rows(labels, logits.shape[-1])
    matrix = confusion_matrix(predictions_of(logits)[known], labels[known], logits.shape[-1])
    found = matrix.numpy()
    return _report(np.stack([np.diagonal(found), found.sum(1), found.sum(0)]), label_names, matrix.tolist())


def _report(counts: np.ndarray, label_names: Sequence[str], matrix: list[Any]) -> ClassReport:
    """Of how often each class was predicted rightly, occurs, and was predicted, (3, C)."""
    figures = (values[0].tolist() for values in of_classes(*(side[None].astype(np.float64) for side in counts)))
    rows = zip(map(str, label_names), *figures, counts[1].tolist(), strict=True)
    return ClassReport([ClassScores(*row) for row in rows], matrix)
