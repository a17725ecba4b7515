"""FastBERT: first the backbone with its teacher, then students that imitate the frozen teacher, in one run.

Source: Liu et al., "FastBERT: a Self-distilling BERT with Adaptive Inference Time", ACL 2020, and its released code;
what is exact and what is reconstructed stands in docs/methods.md. Shapes: E exits, B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mebert.curve import ExitRecord
from mebert.distillation import logit_distances
from mebert.errors import UserError
from mebert.losses import exit_losses
from mebert.models.heads import PoolingKind
from mebert.models.multi_exit import ExitOutputs, MultiExitModel
from mebert.modules.base import TARGET_SPEEDUPS, MultiExitModule
from mebert.modules.checks import check_range, refuse_exit_weights
from mebert.modules.optimization import two_stage_adamw

__all__ = ["FastBERTModule", "staged_outputs"]


def staged_outputs(model: MultiExitModel, inputs: Mapping[str, Tensor], distil: bool) -> ExitOutputs:
    """All exits of a batch, with a graph only through what the stage trains.

    Args:
        model: Its last exit is the teacher, the others are students.
        inputs: `input_ids`, `attention_mask` and, if the model reads it, `token_type_ids`, each (B, S).
        distil: Stage 2: only the students get gradients. Stage 1: only the layers and the teacher do.
    """
    logits, features = [], []
    with torch.set_grad_enabled(not distil):
        state = model.start(**inputs)
    for index, depth in enumerate(model.exit_layers):
        with torch.set_grad_enabled(not distil):
            state = model.walk.advance(state, depth)
        is_teacher = index == model.num_exits - 1
        with torch.set_grad_enabled(distil != is_teacher):
            head = model.exit(index)
            features.append(head.pool(state.hidden, state.attention_mask))
            logits.append(head.classify(features[-1]))
    return ExitOutputs(torch.stack(logits), torch.stack(features))


class FastBERTModule(MultiExitModule):
    """FastBERT: fine-tune backbone and teacher (the last exit), then distil them into the other exits.

    Stage 1 (the first `stage1_epochs` epochs): CE of the teacher. Stage 2 (the rest up to `trainer.max_epochs`): the
    sum over students of KL(softmax(teacher) || softmax(student)), T = 1, without labels; layers and teacher run without
    gradient and without dropout. In a regression squared differences take the place of both (RECONSTRUCTED). In
    evaluation `loss` is the mean cross-entropy of the exits.

    Until stage 2 the students know nothing: in stage 1 no thresholds are chosen, and `val/score` is the teacher's
    metric minus 2, below anything of stage 2, so that the best checkpoint is one with trained students.

    Args:
        stage1_epochs: Epochs of stage 1, at least 1; `trainer.max_epochs` (the paper: 3 + 5) must be larger.
        learning_rate: Peak learning rate of stage 1.
        student_learning_rate: Peak learning rate of stage 2.
        warmup_ratio: Share of each stage's steps with rising learning rate, in [0, 1); linear decay follows.
        pooling: What every exit reads; `fastbert` is the paper's.
        kwargs: The settings of MultiExitModule; `exit_weights` has no place here.
    """

    def __init__(
        self,
        stage1_epochs: int = 3,
        learning_rate: float = 2e-5,
        student_learning_rate: float = 2e-4,
        warmup_ratio: float = 0.1,
        pooling: PoolingKind = "fastbert",
        **kwargs: Any,
    ) -> None:
        refuse_exit_weights("FastBERT", kwargs)
        if stage1_epochs < 1:
            raise UserError(f"stage1_epochs must be at least 1, got {stage1_epochs}")
        check_range("student_learning_rate", student_learning_rate, 0.0, float("inf"), low_open=True)
        super().__init__(learning_rate=learning_rate, warmup_ratio=warmup_ratio, pooling=pooling, **kwargs)
        self.stage1_epochs = stage1_epochs
        self.student_learning_rate = student_learning_rate

    def build_model(self) -> MultiExitModel:
        """The shared model, which needs a student."""
        model = super().build_model()
        if model.num_exits < 2:
            raise UserError("FastBERTModule needs at least 2 exits, a teacher and a student: give more exit_layers")
        return model

    @property
    def stage(self) -> int:
        """1 or 2 while it is trained; 2 otherwise."""
        trainer = self._trainer
        if trainer is None or trainer.state.fn != TrainerFn.FITTING:
            return 2
        return 1 if trainer.current_epoch < self.stage1_epochs else 2

    def forward(self, **inputs: Tensor) -> ExitOutputs:
        """All exits of a batch; in training with a graph through what the stage trains."""
        if not self.training:
            return super().forward(**inputs)
        return staged_outputs(self.model, inputs, distil=self.stage == 2)

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training `ce` (teacher, stage 1) or `kd` (students, stage 2); in evaluation the exits' cross-entropy."""
        if not self.training:
            return {"loss": self.exit_loss(outputs, batch)}
        if self.stage == 1:
            loss = exit_losses(outputs.logits[-1:], batch["labels"], self.class_weights).sum()
            return {"loss": loss, "ce": loss.detach()}
        students = outputs.logits[:-1]
        loss = logit_distances(students, outputs.logits[-1:].expand_as(students), temperature=1.0).sum()
        return {"loss": loss, "kd": loss.detach()}

    def configure_optimizers(self) -> Any:
        """One AdamW and one schedule over both stages; what a stage does not train has rate 0 and no gradient."""
        trainer = self.trainer
        total = int(trainer.estimated_stepping_batches)
        first = self.stage1_epochs * ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        students = [p for head in list(self.model.exits)[:-1] for p in head.parameters()]
        own = {id(p) for p in students}
        return two_stage_adamw(
            [p for p in self.parameters() if id(p) not in own],
            students,
            (self.learning_rate, self.student_learning_rate),
            self.weight_decay,
            self.warmup_ratio,
            (min(first, total), total),
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
                "train the students; set trainer.max_epochs above stage1_epochs (the paper: 8 with 3)"
            )
        if isinstance(trainer.strategy, DDPStrategy):
            # Each stage leaves out what the other trains. Lightning has a public way only in the name of the strategy
            # (ddp_find_unused_parameters_true), which a user should not have to know.
            trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """In stage 2 dropout is off in layers and teacher, so that students learn from what these say at inference."""
        frozen = (self.model.encoder, self.model.exit(self.model.num_exits - 1))
        if self.stage == 2 and any(part.training for part in frozen):
            for part in frozen:
                part.eval()

    def score_of_exits(self, values: Tensor) -> Tensor:
        """The mean over exits; in stage 1, where the students know nothing, below any such mean."""
        return super().score_of_exits(values) if self.stage == 2 else values[-1] - 2.0

    def choose_operating_points(self, record: ExitRecord, targets: Sequence[float] = TARGET_SPEEDUPS) -> None:
        """As the base, from stage 2 on."""
        if self.stage == 2:
            super().choose_operating_points(record, targets)
