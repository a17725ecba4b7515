"""Joint training in which the exits' weights are learnt with the model, from how large each exit's loss remains.

Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018; that exits take
the place of tasks is RECONSTRUCTED (docs/methods.md). Shapes: E exits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mebert.errors import check_range
from mebert.models.multi_exit import ExitOutputs
from mebert.modules.base import MultiExitModule
from mebert.modules.checks import refuse_exit_weights


def uncertainty_loss(losses: Tensor, log_variances: Tensor, regression: bool = False) -> Tensor:
    """The losses of all exits, each divided by its learnt variance: sum of exp(-s_i) L_i + s_i / 2, a scalar.

    For squared errors exp(-s_i) L_i / 2, the likelihood of a normal distribution. At its minimum over s exit i's loss
    is multiplied by 1 / (2 L_i) in both: exits of which less is learnt weigh less.

    Args:
        losses: (E,).
        log_variances: s, (E,).
        regression: Whether the losses are squared errors.

    >>> uncertainty_loss(torch.tensor([1.0, 2.0]), torch.zeros(2))
    tensor(3.)
    """
    weighted = (-log_variances).exp() * losses
    return ((0.5 * weighted if regression else weighted) + 0.5 * log_variances).sum()


class LearnedWeightsModule(MultiExitModule):
    """Joint training with learnt weights: the sum over exits of exp(-s_i) CE_i + s_i / 2 (`uncertainty_loss`).

    The weights exp(-s_i) are logged as `train/weight_<exit>`. In evaluation `loss` is the mean over exits.

    Args:
        weights_learning_rate: Peak learning rate of s, which begins at 0 for all exits.
        learning_rate: Peak learning rate of the model.
        kwargs: The settings of MultiExitModule; `exit_weights` has no place here.
    """

    def __init__(self, weights_learning_rate: float = 1e-3, learning_rate: float = 2e-5, **kwargs: Any) -> None:
        refuse_exit_weights("LearnedWeightsModule", kwargs)
        check_range("weights_learning_rate", weights_learning_rate, 0.0, low_open=True)
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.weights_learning_rate = weights_learning_rate
        self.log_variances = nn.Parameter(torch.zeros(self.model.num_exits))  # s

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training `loss` with `ce` (the mean over exits) and every exit's weight; else the mean over exits."""
        losses = self.per_exit_losses(outputs, batch)
        if not self.training:
            return {"loss": losses.mean()}
        loss = uncertainty_loss(losses, self.log_variances, regression=self.model.num_labels == 1)
        weights = (-self.log_variances.detach()).exp()
        parts = {f"weight_{index + 1:02d}": weights[index] for index in range(len(weights))}
        return {"loss": loss, "ce": losses.detach().mean(), **parts}

    def own_rates(self) -> list[tuple[nn.Parameter, float]]:
        """As the base, and a rate for s."""
        return [*super().own_rates(), (self.log_variances, self.weights_learning_rate)]
