"""FastBERT: first the backbone with its teacher, then students that imitate the frozen teacher, in one run.

Source: Liu et al., "FastBERT: a Self-distilling BERT with Adaptive Inference Time", ACL 2020, and its released code;
what is exact and what is reconstructed stands in docs/methods.md. Shapes: E exits, B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mebert.choices import PoolingKind
from mebert.losses import logit_distances
from mebert.models.multi_exit import ExitOutputs
from mebert.modules.two_stage import TwoStageModule


class FastBERTModule(TwoStageModule):
    """FastBERT: fine-tune backbone and teacher (the last exit), then distil them into the other exits.

    Stage 1 (the first `stage1_epochs` epochs): CE of the teacher. Stage 2 (the rest up to `trainer.max_epochs`): the
    sum over students of KL(softmax(teacher) || softmax(student)), T = 1, without labels; layers and teacher run without
    gradient and without dropout. In a regression squared differences take the place of both (RECONSTRUCTED). In
    evaluation `loss` is the mean cross-entropy of the exits.

    The students are untrained until stage 2: in stage 1 no thresholds are chosen, and `val/score` is the teacher's
    metric minus 2, below anything of stage 2, so that the best checkpoint is one with trained students.

    Args:
        stage1_epochs: Epochs of stage 1, at least 1; `trainer.max_epochs` (the paper: 3 + 5) must be larger.
        learning_rate: Peak learning rate of stage 1.
        student_learning_rate: Peak learning rate of stage 2.
        warmup_ratio: Share of each stage's steps with rising learning rate, in [0, 1); linear decay follows.
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

    def second_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`kd`: the distance of the students' predictions from the teacher's; labels are not used."""
        students = outputs.logits[:-1]
        loss = logit_distances(students, outputs.logits[-1:].expand_as(students), temperature=1.0).sum()
        return {"loss": loss, "kd": loss.detach()}
