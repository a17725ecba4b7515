"""GEEP: teacher and students trained in one step, every student's layer seen through the last layer.

Source: Li et al., Frontiers of Computer Science 18(3) 183308, and the released training code; what is exact and what is
reconstructed stands in docs/methods.md. Shapes: E students, K exits of the teacher, B batch, C classes, F feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from mebert.choices import PoolingKind
from mebert.errors import UserError
from mebert.losses import logit_distances, per_exit_losses
from mebert.models.multi_exit import ExitOutputs, MultiExitModel
from mebert.modules.base import MultiExitModule
from mebert.modules.checks import refuse_exit_weights


@dataclass
class SharedExitOutputs(ExitOutputs):
    """What a training step sees: the exits of the model (students, then the teacher) and the teacher's shared exits.

    `shared` (K, B, C): the teacher's logits for the last layer's view of each layer k in {1..E} + {L-1}, the last of
    which are those of the full network.
    """

    shared: Tensor


def shared_exit_outputs(model: MultiExitModel, inputs: Mapping[str, Tensor]) -> SharedExitOutputs:
    """One pass through the layers in which every student's layer also feeds the last layer (EXACT).

    s_k is what k layers make of the input, z_k the last layer applied to s_k, t_k = Teacher(z_k). s_k is the start of
    s_{k+1}, so that L + E layers run and not the sum over k of k + 1; z_{L-1} is the full network and runs once.
    """
    walk, last = model.adapter, model.num_exits - 1
    state = model.start(**inputs)
    logits, features, shared = [], [], []
    for index in range(last):
        state, student, feature = model.step(state, index)
        logits.append(student)
        features.append(feature)
        if state.depth < walk.num_layers - 1:
            seen = walk.layer(walk.num_layers - 1, state.hidden, state.layer_mask)
            shared.append(model.ask(replace(state, hidden=seen), last)[0])
    _, full, feature = model.step(state, last)
    return SharedExitOutputs(
        torch.stack([*logits, full]), torch.stack([*features, feature]), torch.stack([*shared, full])
    )


class GEEPModule(MultiExitModule):
    """GEEP: cross-entropy of the teacher on every student's layer, and students that imitate the teacher, in one step.

    loss = sum over k of CE(t_k, y) + sum over students of KL(softmax(t_full) || softmax(student_i)), unweighted, T = 1;
    only the teacher's output in the KL term has no gradient. In a regression squared differences take the place of both
    (RECONSTRUCTED). A sample leaves at exit i with the student's prediction. In evaluation `loss` is the mean
    cross-entropy of the exits.

    Args:
        num_students: E: exits after the layers 1..E, the last layer's coming on top; null takes two thirds of the
            layers (8 of 12, 4 of 6), at most all but the last.
        pooling: What every exit reads; `fastbert` is the paper's.
        learning_rate: Peak learning rate of AdamW.
        kwargs: The settings of MultiExitModule; `exit_layers` and `exit_weights` have no place here.
    """

    old_defaults: ClassVar = {**MultiExitModule.old_defaults, "threshold": 0.3}  # the paper's

    def __init__(
        self,
        num_students: int | None = None,
        pooling: PoolingKind = "fastbert",
        learning_rate: float = 3e-5,
        **kwargs: Any,
    ) -> None:
        refuse_exit_weights("GEEP", kwargs)
        if kwargs.get("exit_layers") is not None:
            raise UserError(
                f"exit_layers ({kwargs['exit_layers']}) is not for GEEPModule, whose exits are the layers 1..E and the "
                "last one; give num_students (E)"
            )
        super().__init__(pooling=pooling, learning_rate=learning_rate, **kwargs)

    def exit_layers(self, num_layers: int) -> list[int]:
        """The layers 1..E of the students, and the last."""
        given = self.hparams["num_students"]
        if num_layers < 2:
            raise UserError(f"GEEPModule needs an encoder of at least 2 layers, got {num_layers}")
        students = min(round(num_layers * 2 / 3), num_layers - 1) if given is None else given
        if not 1 <= students < num_layers:
            raise UserError(
                f"num_students must be from 1 to {num_layers - 1} for an encoder of {num_layers} layers, got {students}"
            )
        return [*range(1, students + 1), num_layers]

    def forward(self, **inputs: Tensor) -> ExitOutputs:
        """All exits of a batch; in training with the teacher's shared exits."""
        return shared_exit_outputs(self.model, inputs) if self.training else super().forward(**inputs)

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training `loss` with its parts `ce` (teacher) and `kd` (students); else the exits' cross-entropy."""
        if not isinstance(outputs, SharedExitOutputs):
            return {"loss": self.weighted_exit_loss(outputs, batch)}
        ce = per_exit_losses(outputs.shared, batch["labels"], self.class_weights).sum()
        students = outputs.logits[:-1]
        kd = logit_distances(students, outputs.logits[-1:].expand_as(students), temperature=1.0).sum()
        return {"loss": ce + kd, "ce": ce.detach(), "kd": kd.detach()}
