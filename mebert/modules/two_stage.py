"""Training in two stages within one run: backbone and last exit first, then the other exits before a frozen backbone.

The base of such recipes; each defines the loss of the second stage. Shapes: E exits, B batch, C classes, F feature.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mebert.errors import UserError, check_range
from mebert.losses import per_exit_losses
from mebert.metrics.curve import ExitRecord
from mebert.models.multi_exit import ExitOutputs, MultiExitModel
from mebert.modules.base import MultiExitModule
from mebert.modules.checks import refuse_exit_weights
from mebert.modules.optimization import allow_unused_parameters, two_stage_adamw
from mebert.modules.policy_choice import TARGET_SPEEDUPS
from mebert.runtime.precision import may_fuse


def staged_outputs(model: MultiExitModel, inputs: Mapping[str, Tensor], second: bool) -> ExitOutputs:
    """All exits of a batch, with a graph only through what the stage trains.

    In the `second` only the earlier exits get gradients, in the first only the layers and the last exit do.
    """
    logits, features = [], []
    with torch.set_grad_enabled(not second):
        state = model.start(**inputs)
    for index, depth in enumerate(model.exit_layers):
        with torch.set_grad_enabled(not second):
            state = model.adapter.advance(state, depth)
        is_last = index == model.num_exits - 1
        with torch.set_grad_enabled(second != is_last):
            exit_logits, feature = model.ask(state, index)
            logits.append(exit_logits)
            features.append(feature)
    return ExitOutputs(torch.stack(logits), torch.stack(features))


class TwoStageModule(MultiExitModule):
    """First the backbone with the last exit, then the other exits, which read the frozen backbone.

    Stage 1 (the first `stage1_epochs` epochs): CE of the last exit. Stage 2 (the rest up to `trainer.max_epochs`): a
    recipe's `second_loss`; layers and last exit run without gradient and without dropout. In evaluation `loss` is the
    mean cross-entropy of the exits.

    The earlier exits are untrained until stage 2: in stage 1 no thresholds are chosen, and `val/score` is the last
    exit's metric minus 2, below anything of stage 2, so that the best checkpoint is one with trained exits.

    Args:
        stage1_epochs: Epochs of stage 1, at least 1; `trainer.max_epochs` must be larger.
        learning_rate: Peak learning rate of stage 1.
        student_learning_rate: Peak learning rate of stage 2.
        warmup_ratio: Share of each stage's steps with rising learning rate, in [0, 1); linear decay follows.
        kwargs: The settings of MultiExitModule; `exit_weights`, `head_learning_rate` and the head `shared` have no
            place here.
    """

    recipe = "a recipe of two stages"  # as messages name it
    usual_epochs = "for example 6 with 3"

    def __init__(
        self,
        stage1_epochs: int = 3,
        learning_rate: float = 2e-5,
        student_learning_rate: float = 2e-5,
        warmup_ratio: float = 0.0,
        **kwargs: Any,
    ) -> None:
        refuse_exit_weights(self.recipe, kwargs)
        if kwargs.get("head") == "shared":
            raise UserError(
                f"head shared has no place in {self.recipe}, whose second stage leaves the last exit alone; take mlp "
                "or linear"
            )
        if kwargs.get("head_learning_rate") is not None:
            raise UserError(
                f"head_learning_rate ({kwargs['head_learning_rate']:g}) has no place in {self.recipe}, whose earlier "
                "exits learn in a stage of their own; give student_learning_rate"
            )
        check_range("stage1_epochs", stage1_epochs, 1)
        check_range("student_learning_rate", student_learning_rate, 0.0, low_open=True)
        super().__init__(learning_rate=learning_rate, warmup_ratio=warmup_ratio, **kwargs)
        self.stage1_epochs = stage1_epochs
        self.student_learning_rate = student_learning_rate

    @abstractmethod
    def second_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss of stage 2 and its named parts, as `compute_loss` returns them; only earlier exits have a graph."""

    def build_model(self) -> MultiExitModel:
        """The shared model, which needs an exit before the last."""
        model = super().build_model()
        if model.num_exits < 2:
            raise UserError(
                f"{type(self).__name__} needs at least 2 exits, the last one and one to train after it: give more "
                "exit_layers"
            )
        return model

    @property
    def stage(self) -> int:
        """1 or 2 while it is trained; 2 otherwise."""
        trainer = self._trainer
        if trainer is None or trainer.state.fn != TrainerFn.FITTING:
            return 2
        return 1 if trainer.current_epoch < self.stage1_epochs else 2

    @property
    def stage1_steps(self) -> int:
        """Optimiser steps of stage 1."""
        return self.stage1_epochs * ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)

    def forward(self, **inputs: Tensor) -> ExitOutputs:
        """All exits of a batch; in training with a graph through what the stage trains."""
        if not self.training:
            return super().forward(**inputs)
        return staged_outputs(self.model, inputs, second=self.stage == 2)

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training `ce` of the last exit (stage 1) or the recipe's `second_loss`; else the exits' cross-entropy."""
        if not self.training:
            return {"loss": self.weighted_exit_loss(outputs, batch)}
        if self.stage == 2:
            return self.second_loss(outputs, batch)
        loss = per_exit_losses(outputs.logits[-1:], batch["labels"], self.class_weights).sum()
        return {"loss": loss, "ce": loss.detach()}

    def schedule_ends(self, total: int) -> tuple[int, int]:
        """The steps at which the rates of stage 1 and 2 reach 0, of `total` steps of the training."""
        return min(self.stage1_steps, total), total

    def configure_optimizers(self) -> Any:
        """One AdamW and one schedule over both stages; what a stage does not train has rate 0 and no gradient."""
        total = int(self.trainer.estimated_stepping_batches)
        second = [p for head in list(self.model.exits)[:-1] for p in head.parameters()]
        own = {id(p) for p in second}
        return two_stage_adamw(
            [p for p in self.parameters() if id(p) not in own],
            second,
            (self.learning_rate, self.student_learning_rate),
            self.weight_decay,
            self.warmup_ratio,
            self.schedule_ends(total),
            fused=may_fuse(self.trainer),
        )

    def setup(self, stage: str) -> None:
        """As the base; refuse a training without stage 2, and let DDP know of parameters without a gradient."""
        super().setup(stage)
        trainer = self.trainer
        if stage != "fit":
            return
        epochs = trainer.max_epochs
        if not trainer.fast_dev_run and (epochs is None or epochs <= self.stage1_epochs):  # type: ignore[attr-defined]
            raise UserError(
                f"stage1_epochs is {self.stage1_epochs} and trainer.max_epochs {epochs}, which leaves no epoch to "
                f"train the earlier exits; set trainer.max_epochs above stage1_epochs ({self.usual_epochs})"
            )
        allow_unused_parameters(trainer)  # each stage leaves out what the other trains

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """In stage 2 dropout is off in layers and last exit: exits learn from their outputs at inference."""
        frozen = (self.model.encoder, self.model.exit(self.model.num_exits - 1))
        if self.stage == 2 and any(part.training for part in frozen):
            for part in frozen:
                part.eval()

    def score_of_exits(self, values: Tensor) -> Tensor:
        """The mean over exits; in stage 1, where the earlier ones are untrained, below any such mean."""
        return super().score_of_exits(values) if self.stage == 2 else values[-1] - 2.0

    def score_of_curve(self, area: float) -> float:
        """The area; in stage 1 below any area of stage 2."""
        return area if self.stage == 2 else area - 2.0

    def choose_operating_points(
        self, record: ExitRecord, targets: Sequence[float] = TARGET_SPEEDUPS, metric: str | None = None
    ) -> None:
        """As the base, from stage 2 on."""
        if self.stage == 2:
            super().choose_operating_points(record, targets, metric)
