"""Metrics of rows that count several times, for many tables of counts at once.

Shapes: R tables, N rows, C classes. Each gives the value that the metric of `mebert.metrics.task` has on the rows
repeated so often; only Matthews' correlation of answers that are all the same is 0 here (torchmetrics: nearly 0).
"""

from __future__ import annotations

import numpy as np

__all__ = ["CONFUSION_METRICS", "confusion_metric", "weighted_correlation"]

CONFUSION_METRICS = ("acc", "f1", "matthews")


def confusion_metric(metric: str, matrices: np.ndarray) -> np.ndarray:
    """Accuracy, F1 or Matthews' correlation of confusion matrices, (R,).

    Args:
        metric: `acc`, `f1`, of class 1 for two classes and else the mean over the classes that occur, or `matthews`.
        matrices: Rows by label (dimension 1) and prediction (dimension 2), (R, C, C).

    Raises:
        ValueError: Another metric.
    """
    right = np.diagonal(matrices, axis1=1, axis2=2)
    labels, predictions = matrices.sum(2), matrices.sum(1)
    total = matrices.sum((1, 2))
    if metric == "acc":
        return right.sum(1) / total
    if metric == "f1":
        both = labels + predictions
        values = np.divide(2 * right, both, out=np.zeros_like(both), where=both > 0)
        if matrices.shape[1] == 2:
            return values[:, 1]
        return values.sum(1) / (both > 0).sum(1)
    if metric != "matthews":
        raise ValueError(f"no metric of confusion matrices: {metric!r}")
    covariance = right.sum(1) * total - (labels * predictions).sum(1)
    spread = (total**2 - (labels**2).sum(1)) * (total**2 - (predictions**2).sum(1))
    values = np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)
    if matrices.shape[1] == 2:  # as torchmetrics where the formula is 0 / 0
        values[right.sum(1) == total] = 1.0
        values[right.sum(1) == 0] = -1.0
    return values


def weighted_correlation(counts: np.ndarray, x: np.ndarray, y: np.ndarray, ranks: bool = False) -> np.ndarray:
    """Pearson's correlation (R,), or with `ranks` Spearman's; NaN where a side is constant.

    Args:
        counts: How often each row counts, (R, N).
        x: (N,).
        y: (N,).
        ranks: Take the ranks among the rows that count; equal values share their mean rank.
    """
    total = counts.sum(1, keepdims=True)
    sides = [_ranks(counts, side) if ranks else np.broadcast_to(side, counts.shape) for side in (x, y)]
    a, b = (side - (counts * side).sum(1, keepdims=True) / total for side in sides)
    products = [(counts * p).sum(1) for p in (a * b, a * a, b * b)]
    spread = np.sqrt(products[1] * products[2])
    return np.divide(products[0], spread, out=np.full_like(spread, np.nan), where=spread > 1e-12)


def _ranks(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean rank of each row among the repeated rows, (R, N)."""
    distinct, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(distinct)))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]
