"""Precision, recall, F1 and support of each class, and the confusion matrix. Shapes: N rows, C classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from mebert.metrics.formulas import of_classes
from mebert.metrics.task import confusion_matrix, labelled_rows, predictions_of


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
    matrix: list[list[int]]  # (C, C): rows are the true classes, columns the predicted ones, as in scikit-learn

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"classes": [vars(one) for one in self.classes], "confusion_matrix": self.matrix}


def class_report(logits: Tensor, labels: Tensor, label_names: Sequence[str]) -> ClassReport:
    """The classes of logits (N, C) and labels (N,); rows of a class below 0 have no label and do not count."""
    known = labelled_rows(labels, logits.shape[-1])
    matrix = confusion_matrix(predictions_of(logits)[known], labels[known], logits.shape[-1])
    counts = matrix.numpy()
    support = counts.sum(1)
    sides = (np.diagonal(counts), support, counts.sum(0))
    figures = (values[0].tolist() for values in of_classes(*(side[None].astype(np.float64) for side in sides)))
    rows = zip(map(str, label_names), *figures, support.tolist(), strict=True)
    return ClassReport([ClassScores(*row) for row in rows], matrix.tolist())
