"""Confidences that mean what they say: one temperature an exit, and how far each exit's confidence is off.

Shapes: E exits, N samples, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mebert.errors import UserError

__all__ = ["expected_calibration_error", "fit_temperatures"]

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature: an exit that is never wrong (or never better than chance) would take it to 0 (infinity)."""


def fit_temperatures(logits: Tensor, labels: Tensor) -> Tensor:
    """The temperature T_i of each exit, (E,), that minimises the cross-entropy of softmax(z_i / T_i); by L-BFGS.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (EXACT for one classifier; each exit is
    one). The cross-entropy is convex in 1 / T, so that the minimum is the only one.

    Args:
        logits: (E, N, C) of data that the model was not trained on.
        labels: (N,) int64; rows with a negative label are left out.

    Raises:
        UserError: No labelled row, or no classes to choose between.
    """
    known = labels >= 0
    if logits.shape[-1] < 2 or not bool(known.any()):
        raise UserError(
            f"temperatures are fitted to labelled rows of a classification, got {int(known.sum())} such rows of "
            f"{logits.shape[-1]} label(s)"
        )
    with torch.inference_mode(False), torch.enable_grad():
        # Clones: what was recorded in inference mode may not take part in a gradient.
        z, target = logits[:, known].detach().clone().double().cpu(), labels[known].clone().cpu()
        return _fit(z, target.expand(len(z), -1).flatten())


def _fit(z: Tensor, target: Tensor) -> Tensor:
    log_temperature = torch.zeros(len(z), 1, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_temperature], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        # Bounded here too: beyond the bounds the loss is flat, and the search ends.
        scaled = z / log_temperature.clamp(math.log(LOWEST), math.log(HIGHEST)).exp()
        loss = F.cross_entropy(scaled.flatten(0, 1), target) * len(z)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_temperature.detach().flatten().exp().clamp(LOWEST, HIGHEST).float()


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    """How far confidence and accuracy are apart at each exit, (E,), in [0, 1]; 0 is perfectly calibrated.

    Samples are put into `bins` equal intervals of their largest probability; the error is the mean over samples of the
    distance between accuracy and mean confidence of their interval (Guo et al. 2017).

    Args:
        logits: (E, N, C).
        labels: (N,) int64.
        bins: Number of intervals.
    """
    confidence, answer = logits.float().softmax(-1).max(-1)
    excess = confidence - (answer == labels).float()
    interval = (confidence * bins).long().clamp_max(bins - 1)
    sums = torch.zeros(len(logits), bins, device=logits.device).scatter_add_(1, interval, excess)
    return sums.abs().sum(1) / max(1, logits.shape[1])
