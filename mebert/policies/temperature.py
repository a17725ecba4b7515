"""Temperature scaling and the calibration error of each exit (E exits, N samples, C classes)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mebert.errors import UserError

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature: an exit that is never wrong (or never better than chance) would take it to 0 (infinity)."""
HALVINGS = 50


def fit_temperatures(logits: Tensor, labels: Tensor) -> Tensor:
    """The temperature T_i of each exit, (E,), that minimises the cross-entropy of softmax(z_i / T_i); by bisection.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (EXACT for one classifier; each exit is
    one). The cross-entropy is convex in 1 / T, so that its slope rises and the minimum is where it passes 0.

    Args:
        logits: (E, N, C) of data that the model was not trained on; of several labels a row (E, N, C, 2).
        labels: (N,) int64; rows with a negative label are left out. Of several labels (N, C), each of which counts.

    Raises:
        UserError: No labelled row, or no classes to choose between.
    """
    logits, labels = _one_each(logits, labels)
    known = labels >= 0
    if logits.shape[-1] < 2 or not bool(known.any()):
        raise UserError(
            f"temperatures are fitted to labelled rows of a classification, got {int(known.sum())} such rows of "
            f"{logits.shape[-1]} label(s)"
        )
    z, target = logits[:, known].detach().double().cpu(), labels[known].cpu()
    z = z - z.amax(-1, keepdim=True)  # logits that are all alike have a slope of 0, not of rounding errors
    low = z.new_full((len(z),), -math.log(HIGHEST))
    high = z.new_full((len(z),), -math.log(LOWEST))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rises = _slope(z, target, middle.exp()) > 0
        low, high = torch.where(rises, low, middle), torch.where(rises, middle, high)
    as_good_as_any = _slope(z, target, torch.ones_like(low)) == 0
    return torch.where(as_good_as_any, 1.0, (-low).exp()).clamp(LOWEST, HIGHEST).float()


def _one_each(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (E, N, C) and labels (N,) as they are; of several labels a row (E, N C, 2) and (N C,), each by itself."""
    return (logits.flatten(1, 2), labels.flatten()) if labels.ndim == 2 else (logits, labels)


def _slope(z: Tensor, target: Tensor, inverse: Tensor) -> Tensor:
    """The derivative of each exit's cross-entropy, (E,), by its 1 / T, where that is `inverse` (E,)."""
    expected = ((z * inverse.view(-1, 1, 1)).softmax(-1) * z).sum(-1)
    actual = z.gather(-1, target.expand(len(z), -1).unsqueeze(-1)).squeeze(-1)
    return (expected - actual).mean(1)


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    """How far confidence and accuracy are apart at each exit, (E,), in [0, 1]; 0 is perfectly calibrated, NaN: no rows.

    Samples are put into `bins` equal intervals of their largest probability; the error is the mean over samples of the
    distance between accuracy and mean confidence of their interval (Guo et al. 2017). As torchmetrics'
    `multiclass_calibration_error`, but all exits at once and summed in another order: its figures are stored.

    Args:
        logits: (E, N, C); of several labels a row (E, N, C, 2).
        labels: (N,) int64; rows with a negative label are left out. Of several labels (N, C), each of which counts.
        bins: Number of intervals.
    """
    logits, labels = _one_each(logits, labels)
    logits, labels = logits[:, labels >= 0], labels[labels >= 0]
    confidence, prediction = logits.float().softmax(-1).max(-1)
    excess = confidence - (prediction == labels).float()
    interval = (confidence * bins).long().clamp_max(bins - 1)
    sums = torch.zeros(len(logits), bins, device=logits.device).scatter_add_(1, interval, excess)
    return sums.abs().sum(1) / len(labels)
