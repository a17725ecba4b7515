"""How good a policy's scores are, for policies that choose a setting on validation data (E exits, N samples)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mebert.metrics.curve import ExitRecord, area_under_curve, fixed_exit_points, sweep
from mebert.metrics.task import metric_value


def area_of_scores(record: ExitRecord, scores: Tensor, exit_layers: Sequence[int], regression: bool = False) -> float:
    """The area under accuracy (for regression: minus the mean squared error) over layers, for scores (E, N).

    Of several labels a row under the micro F1.
    """
    ones = record.logits.new_ones(record.logits.shape[:2])  # by layers: FLOPs do not matter here
    metric = _minus_squared_error if regression else _accuracy
    points = sweep(replace(record, scores={"its": scores}), "its", exit_layers, ones, ones[0], metric)
    first = fixed_exit_points(record, exit_layers, ones, ones[0], metric)[-1]
    return area_under_curve(points, first)


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return metric_value("f1_micro" if labels.ndim == 2 else "acc", logits, labels)


def _minus_squared_error(logits: Tensor, labels: Tensor) -> float:
    return -float(torch.nn.functional.mse_loss(logits.squeeze(-1).float(), labels.float()))
