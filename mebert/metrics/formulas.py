"""Accuracy, F1, Matthews and the correlations from counts, for many sets of rows at once, in float64.

The one place where the metrics of classes and values are computed: logged, in tables, and resampled. scikit-learn and
SciPy take one set of rows at a time; tests compare the two. A metric that has no value is NaN: any of no rows, and a
correlation where one side is constant.

Shapes: R sets of rows (resamples), N rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

ClassFormula = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""How often each class was predicted rightly, occurs, and was predicted, (R, C) float64 each, to the metric (R,)."""


def accuracy(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Share of right predictions."""
    return _divide(correct.sum(1), labels.sum(1))


def f1(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """F1 of class 1 for two classes, as in GLUE, else the mean over the classes that occur or were predicted.

    As scikit-learn's with `zero_division=0`.
    """
    both = labels + predictions
    values = of_classes(correct, labels, predictions)[2]
    found = values[:, 1] if both.shape[1] == 2 else _divide(values.sum(1), (both > 0).sum(1))
    return np.where(labels.sum(1) > 0, found, np.nan)


def of_classes(
    correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, (R, C) each; 0 where there is nothing to divide by, as scikit-learn's."""
    pairs = ((correct, predictions), (correct, labels), (2 * correct, labels + predictions))
    precision, recall, f1_values = (_divide(above, below, otherwise=0.0) for above, below in pairs)
    return precision, recall, f1_values


def matthews(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Matthews' correlation; 0 where one class alone occurs or was predicted, as scikit-learn's (torchmetrics': not).

    >>> matthews(np.array([[198.0, 0.0]]), np.array([[198.0, 2.0]]), np.array([[200.0, 0.0]]))
    array([0.])
    """
    total = labels.sum(1)
    covariance = correct.sum(1) * total - (labels * predictions).sum(1)
    spread = (total**2 - (labels**2).sum(1)) * (total**2 - (predictions**2).sum(1))
    return np.where(total > 0, _divide(covariance, np.sqrt(spread), otherwise=0.0), np.nan)


def f1_micro(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """F1 of all labels of all rows counted together; 0 where no label occurs or was predicted, as scikit-learn's."""
    return _divide(2 * correct.sum(1), (labels + predictions).sum(1), otherwise=0.0)


def f1_macro(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The mean over all labels of each one's F1; that of a label that neither occurs nor was predicted is 0."""
    return of_classes(correct, labels, predictions)[2].mean(1)


CLASS_METRICS: dict[str, ClassFormula] = {"acc": accuracy, "f1": f1, "matthews": matthews}
"""The metrics of classes, by short name."""

LABEL_METRICS: dict[str, ClassFormula] = {"f1_micro": f1_micro, "f1_macro": f1_macro}
"""Those of several labels a row, of counts of each label; beside them is `acc`, the share of rows with all right."""


def correlation(counts: np.ndarray, x: np.ndarray, y: np.ndarray, ranks: bool) -> np.ndarray:
    """Pearson's correlation (R,) of x and y (N,) on repeated rows, or Spearman's with `ranks`.

    `counts` (R, N) says how often each row is in each set.
    """
    drawn = counts > 0
    sides = [_ranks(counts, side) if ranks else np.broadcast_to(_scaled(side), counts.shape) for side in (x, y)]
    a, b = (side - _divide((counts * side).sum(1), counts.sum(1))[:, None] for side in sides)
    products = [(counts * p).sum(1) for p in (a * b, a * a, b * b)]
    values = np.clip(_divide(products[0], np.sqrt(products[1] * products[2])), -1.0, 1.0)
    # Rounding leaves a constant side with a spread just above 0.
    constant = [_largest(side, drawn) == -_largest(-side, drawn) for side in sides]
    return np.where(constant[0] | constant[1], np.nan, values)


def _divide(a: np.ndarray, b: np.ndarray, otherwise: float = math.nan) -> np.ndarray:
    """The quotient, and `otherwise` where b is 0."""
    a, b = np.broadcast_arrays(a, np.asarray(b, dtype=np.float64))
    return np.divide(a, b, out=np.full(b.shape, otherwise), where=b != 0)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values (N,) moved and scaled into [-1, 1], which changes no correlation."""
    with np.errstate(invalid="ignore"):  # infinite values have no correlation
        moved = values - values.mean() if len(values) else values
    return _divide(moved, np.abs(moved).max(initial=0.0))


def _largest(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """The largest of the values (R, N) that are in each set, (R,)."""
    return np.where(drawn, values, -math.inf).max(1, initial=-math.inf)


def _ranks(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank of each row among the repeated rows, (R, N); equal values share the mean of their ranks."""
    if not len(values):
        return np.zeros(counts.shape)
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]
