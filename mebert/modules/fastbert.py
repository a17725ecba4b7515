"""FastBERT: first the backbone with its teacher, then students that imitate the frozen teacher, in one run.

Source: Liu et al., "FastBERT: a Self-distilling BERT with Adaptive Inference Time", ACL 2020, and its released code;
what is exact and what is reconstructed stands in docs/methods.md. Shapes: E exits, B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mebert.choices import PoolingKind
from mebert.data.unlabelled import labelled_part
from mebert.errors import UserError
from mebert.losses import logit_distances
from mebert.models.multi_exit import ExitOutputs
from mebert.modules.two_stage import TwoStageModule
from mebert.runtime.messages import rank_zero_info

KEY = "best_of_stage_1"  # of what mebert adds to a checkpoint
SCORE = "val/score"


class FastBERTModule(TwoStageModule):
    """FastBERT: fine-tune backbone and teacher (the last exit), then distil them into the other exits.

    Stage 1 (the first `stage1_epochs` epochs): CE of the teacher. Stage 2 (the rest up to `trainer.max_epochs`): the
    sum over students of KL(softmax(teacher) || softmax(student)), T = 1, without labels; layers and teacher run without
    gradient and without dropout. In a regression squared differences take the place of both (RECONSTRUCTED). In
    evaluation `loss` is the mean cross-entropy of the exits.

    Rows without a label (`data.unlabelled_file`) are distilled with the others in stage 2.

    Stage 2 starts from the layers and the teacher of the validation in stage 1 with the best `val/score`, the first of
    equal ones; without any score from the last step's. Checkpoints to resume from hold them until then.

    The students are untrained until stage 2: in stage 1 no thresholds are chosen, and `val/score` is the teacher's
    metric minus 2, below anything of stage 2, so that the best checkpoint is one with trained students.

    Args:
        stage1_epochs: Epochs of stage 1, at least 1; `trainer.max_epochs` (the paper: 3 + 5) must be larger.
        learning_rate: Peak learning rate of stage 1.
        student_learning_rate: Peak learning rate of stage 2.
        warmup_ratio: Share of each schedule's steps with rising learning rate, in [0, 1); linear decay follows.
        student_schedule: Where the students' rate reaches 0: at the end of stage 2 (`whole`), or, as in the released
            code, after as many epochs of it as stage 1 has (`released`), so that further ones train nothing.
        pooling: What every exit reads; `fastbert` is the paper's.
        kwargs: The settings of MultiExitModule; `exit_weights`, `head_learning_rate` and the head `shared` have no
            place here.
    """

    recipe = "FastBERT"
    usual_epochs = "the paper: 8 with 3"

    def __init__(
        self,
        stage1_epochs: int = 3,
        learning_rate: float = 2e-5,
        student_learning_rate: float = 2e-4,
        warmup_ratio: float = 0.1,
        student_schedule: Literal["whole", "released"] = "whole",
        pooling: PoolingKind = "fastbert",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            stage1_epochs=stage1_epochs,
            learning_rate=learning_rate,
            student_learning_rate=student_learning_rate,
            warmup_ratio=warmup_ratio,
            pooling=pooling,
            **kwargs,
        )
        self.student_schedule = student_schedule
        self._best: dict[str, Any] | None = None  # in stage 1: the best score, and the weights with it

    @property
    def learns_without_labels(self) -> bool:
        """In stage 2."""
        return True

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """As the base; stage 1 leaves rows without a label out."""
        return super().training_step(labelled_part(batch) if self.stage == 1 else batch, batch_idx)

    def schedule_ends(self, total: int) -> tuple[int, int]:
        """As the base; the second is that of `student_schedule`."""
        first, last = super().schedule_ends(total)
        return (first, 2 * first) if self.student_schedule == "released" else (first, last)

    def on_validation_epoch_end(self) -> None:
        """In stage 1, keep the weights with the best score; callbacks have logged it before."""
        trainer = self.trainer
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or self.stage == 2:
            return
        score = float(trainer.callback_metrics.get(SCORE, torch.nan))
        if score > (-torch.inf if self._best is None else self._best["score"]):  # never true of NaN
            weights = {name: value.detach().cpu().clone() for name, value in self._first_stage().items()}
            self._best = {"score": score, "weights": weights}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """As the base; stage 2 begins with the best weights of stage 1."""
        super().on_train_batch_start(batch, batch_idx)
        if self.stage == 1:
            return
        best, self._best = self._best, None
        if best is not None:
            with torch.no_grad():
                for name, value in self._first_stage().items():
                    value.copy_(best["weights"][name])
        elif batch_idx == 0 and self.trainer.current_epoch == self.stage1_epochs:
            rank_zero_info(f"FastBERT: stage 1 had no {SCORE}, so stage 2 starts from its last step's weights")

    def _first_stage(self) -> dict[str, Tensor]:
        """What stage 1 trains, the weights themselves: layers and teacher."""
        parts = ("encoder.", f"exits.{self.model.num_exits - 1}.")
        return {name: value for name, value in self.model.state_dict().items() if name.startswith(parts)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._best is not None and "optimizer_states" in checkpoint:  # one to resume from
            checkpoint["mebert"][KEY] = self._best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._best = checkpoint["mebert"].get(KEY)
        own = {name: value.shape for name, value in self._first_stage().items()}
        if self._best is not None and {name: v.shape for name, v in self._best["weights"].items()} != own:
            raise UserError(f"the checkpoint's {KEY} has other weights than layers and last exit; train anew")

    def second_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`kd`: the distance of the students' predictions from the teacher's; labels are not used."""
        students = outputs.logits[:-1]
        loss = logit_distances(students, outputs.logits[-1:].expand_as(students), temperature=1.0).sum()
        return {"loss": loss, "kd": loss.detach()}
