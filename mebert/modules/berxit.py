"""BERxiT: the last exit and the others take turns, and a small head learns to predict where an exit is wrong.

Source: Xin et al., "BERxiT: Early Exiting for BERT with Better Fine-Tuning and Extension to Regression", EACL 2021, and
its released code; what is exact and what is reconstructed stands in docs/methods.md.
Shapes: E exits, B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from mebert.errors import UserError
from mebert.losses import exit_errors
from mebert.models.multi_exit import ExitOutputs, MultiExitModel
from mebert.modules.base import MultiExitModule
from mebert.modules.checks import refuse_exit_weights
from mebert.policies import ExitPolicy, LearnedToExit


def learning_to_exit_loss(scorer: nn.Linear, outputs: ExitOutputs, labels: Tensor) -> Tensor:
    """The squared error of the learning-to-exit head, mean over all exits and samples, a scalar (EXACT).

    u = sigmoid(scorer(h_i)) against 1 - [exit i is right], or tanh of the absolute error where C = 1. The last exit
    counts, too, although nothing is decided there. Logits (E, B, C), features (E, B, F), labels (B,), int64 classes, or
    float targets where C = 1.
    """
    unsure = scorer(outputs.features).squeeze(-1).float().sigmoid()
    return (unsure - exit_errors(outputs.logits, labels)).square().mean()


class BERxiTModule(MultiExitModule):
    """BERxiT: the batches of an epoch train the last exit (even, from 0) and the other exits (odd) in turn.

    `alternate-lte`: CE_E + MSE on even batches, the sum over i < E of CE_i, + MSE, on odd ones; MSE is that of the
    learning-to-exit head (`learning_to_exit_loss`), which is part of the model (`model.exit_scorer`) and of what
    `save_pretrained` writes. `alternate`, without a head: CE_E, then the sum over all exits. What a batch does not
    train has a gradient of 0. In evaluation `loss` is the mean over exits.

    Args:
        routine: The released code's name of what is trained: `alternate-lte` has a head, by which samples leave;
            `alternate` has none, and samples leave by entropy (regression: by the change of the estimate).
        kwargs: The settings of MultiExitModule; `exit_weights` has no place here.
    """

    def __init__(self, routine: Literal["alternate-lte", "alternate"] = "alternate-lte", **kwargs: Any) -> None:
        refuse_exit_weights("BERxiT", kwargs)
        if routine not in ("alternate-lte", "alternate"):
            raise UserError(f"routine must be alternate-lte or alternate, got {routine!r}")
        super().__init__(**kwargs)
        self.even_batch = False

    def build_model(self) -> MultiExitModel:
        """The shared model, with a learning-to-exit head if the routine has one."""
        model = super().build_model()
        if self.hparams["routine"] == "alternate-lte":
            model.exit_scorer = nn.Linear(model.feature_size, 1)
            nn.init.normal_(model.exit_scorer.weight, std=0.02)
            nn.init.zeros_(model.exit_scorer.bias)
        return model

    def default_policy(self) -> ExitPolicy:
        """Leave by the learning-to-exit head, where there is one."""
        return super().default_policy() if self.model.exit_scorer is None else LearnedToExit(self.threshold or 0.0)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """As the base; the number of the batch within its epoch says whose turn it is."""
        self.even_batch = batch_idx % 2 == 0
        return super().training_step(batch, batch_idx)

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training `last` (even batches) or `ce` of the other exits (odd), and `lte` of the head; else the mean."""
        losses = self.per_exit_losses(outputs, batch)
        if not self.training:
            return {"loss": losses.mean()}
        head = self.model.exit_scorer if self.hparams["routine"] == "alternate-lte" else None
        name, loss = (
            ("last", losses[-1]) if self.even_batch else ("ce", (losses if head is None else losses[:-1]).sum())
        )
        if head is None:
            return {"loss": loss, name: loss.detach()}
        lte = learning_to_exit_loss(head, outputs, batch["labels"])
        return {"loss": loss + lte, name: loss.detach(), "lte": lte.detach()}
