"""ElasticBERT's training: the sum of all exits' losses, with the gradient kept at one size over the layers.

Source: Liu et al., "Towards Efficient NLP: A Standard Evaluation and A Strong Baseline" (ElasticBERT), NAACL 2022, and
its released code; gradient equilibrium: Li et al., "Improved Techniques for Training Adaptive Deep Networks", ICCV 2019
(docs/methods.md). Shapes: E exits, B batch, S tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mebert.models.multi_exit import ExitOutputs, MultiExitModel
from mebert.modules.base import MultiExitModule
from mebert.modules.checks import refuse_exit_weights


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """The values as they are, with a gradient that is `factor` times as large.

    >>> x = torch.ones(2, requires_grad=True)
    >>> scale_gradient(x, 0.5).sum().backward()
    >>> x.grad
    tensor([0.5000, 0.5000])
    """
    scaled: Tensor = _ScaledGradient.apply(values, factor)  # type: ignore[no-untyped-call]
    return scaled


def equilibrium_outputs(model: MultiExitModel, inputs: Mapping[str, Tensor]) -> ExitOutputs:
    """All exits of a batch with gradient equilibrium (EXACT).

    With exits i = 0..E-1, what exit i reads has its gradient scaled by 1 / (E - i), and on the way on to the deeper
    layers by E - i - 1 besides. So the layers below get the mean of the gradients of the E - i exits that they
    serve, not their sum; heads get their own in full.
    """
    logits, features = [], []
    state = model.start(**inputs)
    for index, depth in enumerate(model.exit_layers):
        state, served = model.adapter.advance(state, depth), model.num_exits - index
        hidden = scale_gradient(state.hidden, 1.0 / served)
        exit_logits, feature = model.ask(replace(state, hidden=hidden), index)
        logits.append(exit_logits)
        features.append(feature)
        state = replace(state, hidden=scale_gradient(hidden, served - 1.0))
    return ExitOutputs(torch.stack(logits), torch.stack(features))


class ElasticBERTModule(MultiExitModule):
    """ElasticBERT: the sum over exits of CE_i, trained with gradient equilibrium (`equilibrium_outputs`).

    In evaluation `loss` is the mean over exits.

    Args:
        kwargs: The settings of MultiExitModule; `exit_weights` has no place here.
    """

    def __init__(self, **kwargs: Any) -> None:
        refuse_exit_weights("ElasticBERT", kwargs)
        super().__init__(**kwargs)

    def forward(self, **inputs: Tensor) -> ExitOutputs:
        """All exits of a batch; in training with gradient equilibrium."""
        return equilibrium_outputs(self.model, inputs) if self.training else super().forward(**inputs)

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sum over exits in training; the mean in evaluation."""
        losses = self.per_exit_losses(outputs, batch)
        return {"loss": losses.sum() if self.training else losses.mean()}
