"""BERxiT: the last exit and all exits take turns, and a small head learns to predict where an exit is wrong.

Source: Xin et al., "BERxiT: Early Exiting for BERT with Better Fine-Tuning and Extension to Regression", EACL 2021, and
its released code; what is exact and what is reconstructed stands in docs/methods.md.
Shapes: E exits, B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mebert.losses import exit_errors
from mebert.models.multi_exit import ExitOutputs, MultiExitModel
from mebert.modules.base import MultiExitModule
from mebert.modules.checks import refuse_exit_weights
from mebert.modules.optimization import allow_unused_parameters
from mebert.modules.two_stage import staged_outputs
from mebert.policies import ExitPolicy, LearnedToExit


def scorer_losses(scorer: nn.Linear, outputs: ExitOutputs, labels: Tensor) -> Tensor:
    """The squared error of the learning-to-exit head for each exit but the last, (E - 1,).

    u = sigmoid(scorer(h_i)) against 1 - [exit i is right], mean over the batch; the last exit has nothing to decide.
    Logits (E, B, C), features (E, B, F), labels (B,), int64 classes, or float targets where C = 1.
    """
    unsure = scorer(outputs.features[:-1]).squeeze(-1).float().sigmoid()
    return (unsure - exit_errors(outputs.logits[:-1], labels)).square().mean(1)


class BERxiTModule(MultiExitModule):
    """BERxiT: even steps train the last exit alone, odd ones all exits and the learning-to-exit head.

    Even optimiser steps: CE of the last exit. Odd ones: the sum over exits of CE_i, and over all but the last of the
    head's squared error (`scorer_losses`). In evaluation `loss` is the mean over exits. The head is part of the model
    (`model.exit_scorer`) and of what `save_pretrained` writes.

    Args:
        kwargs: The settings of MultiExitModule; `exit_weights` has no place here.
    """

    def __init__(self, **kwargs: Any) -> None:
        refuse_exit_weights("BERxiT", kwargs)
        super().__init__(**kwargs)

    def build_model(self) -> MultiExitModel:
        """The shared model with a learning-to-exit head."""
        model = super().build_model()
        model.exit_scorer = nn.Linear(model.feature_size, 1)
        nn.init.normal_(model.exit_scorer.weight, std=0.02)
        nn.init.zeros_(model.exit_scorer.bias)
        return model

    def default_policy(self) -> ExitPolicy:
        """Leave by the learning-to-exit head."""
        return LearnedToExit(self.threshold or 0.0)

    def forward(self, **inputs: Tensor) -> ExitOutputs:
        """All exits of a batch; in an even step of training with a graph through the last alone."""
        if self.training and self.last_alone:
            return staged_outputs(self.model, inputs, second=False)
        return super().forward(**inputs)

    @property
    def last_alone(self) -> bool:
        """Whether this step trains the last exit alone; without a trainer it does not."""
        return self._trainer is not None and self._trainer.global_step % 2 == 0

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training `last` (even steps), or `ce` of all exits and `lte` of the head (odd); else their mean."""
        losses = self.per_exit_losses(outputs, batch)
        if not self.training:
            return {"loss": losses.mean()}
        if self.last_alone:
            return {"loss": losses[-1], "last": losses[-1].detach()}
        assert self.model.exit_scorer is not None
        ce, lte = losses.sum(), scorer_losses(self.model.exit_scorer, outputs, batch["labels"]).sum()
        return {"loss": ce + lte, "ce": ce.detach(), "lte": lte.detach()}

    def setup(self, stage: str) -> None:
        """As the base; let DDP know of parameters that have no gradient in even steps."""
        super().setup(stage)
        if stage == "fit":
            allow_unused_parameters(self.trainer)
