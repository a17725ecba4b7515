"""RomeBERT: exits that learn from the last one, and whose gradients may not work against it.

Source: Geng et al., "RomeBERT: Robust Training of Multi-Exit BERT", 2021 (arXiv 2101.09755), and its released code;
what is exact and what is reconstructed stands in docs/methods.md. Shapes: E exits, B batch, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mebert.errors import check_range
from mebert.losses import logit_distances
from mebert.models.multi_exit import ExitOutputs, MultiExitModel
from mebert.modules.base import MultiExitModule
from mebert.modules.checks import refuse_exit_weights
from mebert.runtime.distributed import world_size
from mebert.runtime.precision import grad_scaler


def conflict(gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
    """How much of the reference must be taken off the gradients so that they no longer work against it: a scalar <= 0.

    min(0, <g, r> / <r, r>) over all tensors together; g - conflict r is then at a right angle to r, or, where g does
    not work against r, g itself (EXACT). Both have one tensor a parameter.

    >>> conflict([torch.tensor([-2.0, 1.0])], [torch.tensor([4.0, 0.0])])
    tensor(-0.5000)
    """
    inner = torch.stack([(g.float() * r.float()).sum() for g, r in zip(gradients, reference, strict=True)]).sum()
    norm = torch.stack([r.float().square().sum() for r in reference]).sum()
    return (inner / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(0.0)


def shared_matrices(model: MultiExitModel) -> list[nn.Parameter]:
    """The weight matrices of the layers that the last exit shares: no embeddings, biases, LayerNorms (EXACT).

    Layers above the last exit but one serve the last exit alone. (Where layers share their weights all are meant.)
    """
    shared_depth = model.exit_layers[-2] if model.num_exits > 1 else 0
    found = []
    for name, parameter in model.encoder.named_parameters():
        number = re.search(r"\blayers?\.(\d+)\.", name)
        # ALBERT's layers have no numbers of their own; what else has none projects the embeddings.
        shared = ".albert_layers." in name if number is None else int(number[1]) < shared_depth
        if shared and parameter.requires_grad and parameter.ndim >= 2:
            found.append(parameter)
    return found


class RomeBERTModule(MultiExitModule):
    """RomeBERT: self-distillation from the last exit, with gradient regularisation.

    loss = CE_E + sum over the other exits of (1 - gamma) CE_i + gamma T^2 KL(softmax(z_E / T) || softmax(z_i / T)).
    Before each optimiser step the gradient of the other exits' part on the matrices of the shared layers loses what of
    it works against the last exit's (`conflict`); or, with `projected: last`, the last exit's loses what of it works
    against the others'. In a regression squared differences take the place of both (RECONSTRUCTED). In evaluation
    `loss` is the mean over exits.

    Args:
        logit_weight: gamma, share of the distillation in the other exits' losses, in [0, 1].
        temperature: T, above 0.
        gradient_regularisation: Whether to do so; it costs a second pass backward through the layers.
        projected: Whose gradient loses what works against the other: `exits`, that of the exits before the last, as the
            released code does for MNLI and QQP; `last`, that of the last exit, as it does for every other task.
        kwargs: The settings of MultiExitModule; `exit_weights` has no place here.
    """

    def __init__(
        self,
        logit_weight: float = 0.9,
        temperature: float = 3.0,
        gradient_regularisation: bool = True,
        projected: Literal["exits", "last"] = "exits",
        **kwargs: Any,
    ) -> None:
        refuse_exit_weights("RomeBERT", kwargs)
        check_range("logit_weight", logit_weight, 0.0, 1.0)
        check_range("temperature", temperature, 0.0, low_open=True)
        super().__init__(**kwargs)
        self.logit_weight = logit_weight
        self.temperature = temperature
        self.projected = projected
        self._regularised = shared_matrices(self.model) if gradient_regularisation and self.model.num_exits > 1 else []
        self._of_last: list[Tensor] = []  # the last exit's gradients since the last step

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training `loss` with its parts `last`, `ce` and `kd` (of the other exits); else the mean over exits."""
        losses = self.per_exit_losses(outputs, batch)
        if not self.training:
            return {"loss": losses.mean()}
        last, ce = losses[-1], losses[:-1].sum()
        students = outputs.logits[:-1]
        kd = logit_distances(students, outputs.logits[-1:].expand_as(students), self.temperature).sum()
        if self._regularised and self._trainer is not None:
            self._remember(last / self._trainer.accumulate_grad_batches)
        loss = last + (1.0 - self.logit_weight) * ce + self.logit_weight * kd
        return {"loss": loss, "last": last.detach(), "ce": ce.detach(), "kd": kd.detach()}

    def _remember(self, last: Tensor) -> None:
        """Add the gradients of the last exit's loss, which the pass backward of the whole loss will not show.

        In float16 they are taken with the loss scale, as the others: small ones would be 0 without it.
        """
        scaler = grad_scaler(self.trainer)
        last = last if scaler is None else scaler.scale(last)
        found = torch.autograd.grad(last, self._regularised, retain_graph=True)
        before = self._of_last or [torch.zeros_like(g) for g in found]
        self._of_last = [a + b for a, b in zip(before, found, strict=True)]

    @torch.no_grad()
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Regularise the gradients; before they are clipped, and once for all batches of the step."""
        last, self._of_last = self._of_last, []
        if not last:
            return
        if world_size() > 1:  # the gradients are the mean over processes already
            for gradient in last:
                torch.distributed.all_reduce(gradient)
                gradient /= world_size()
        scaler = grad_scaler(self.trainer)
        if scaler is not None and not getattr(optimizer, "_step_supports_amp_scaling", False):
            # The gradients are unscaled by now, but not where a fused optimiser does so within its step.
            last = [gradient / scaler.get_scale() for gradient in last]
        totals = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self._regularised]
        others = [t - r for t, r in zip(totals, last, strict=True)]
        projected, reference = (others, last) if self.projected == "exits" else (last, others)
        taken = conflict(projected, reference)
        if scaler is not None and not bool(taken.isfinite()):
            return  # the scale was too large: the scaler skips the step
        for total, gradient in zip(totals, reference, strict=True):
            total -= taken * gradient
