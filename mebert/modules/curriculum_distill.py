"""Distillation from deep exits to shallow ones, for training with a curriculum.

Source: Gu et al., "Accelerating Multi-Exit BERT Inference via Curriculum Learning and Knowledge Distillation",
IJSEKE 33(3) 395-413. Only its abstract is public: everything here is RECONSTRUCTED from the field's practice
(docs/methods.md).
Shapes: E exits, B batch, C classes, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mebert.errors import UserError, check_range
from mebert.losses import (
    DistillationKind,
    FeatureLossKind,
    averaging_matrix,
    distillation_pairs,
    feature_distances,
    logit_distances,
)
from mebert.models.multi_exit import ExitOutputs
from mebert.modules.base import MultiExitModule
from mebert.modules.teacher_logits import TeacherLogits


class CurriculumDistillModule(MultiExitModule):
    """Joint training in which exits also learn from deeper exits; with CurriculumDataModule it is the paper's method.

    loss = sum over exits of w_i [(1 - g_i) CE_i + g_i KD_i + b FD_i], where KD_i is the distance of the exit's softened
    logits from its teacher's, FD_i that of its features, and g_i is `logit_weight` for exits that have a teacher. CE_i
    is the mean over the rows of a batch with a label; KD_i and FD_i are over all, with those of `data.unlabelled_file`.

    Args:
        distillation: Who teaches whom: `none` (joint training), `vanilla` (the last exit teaches all others),
            `layerwise` (a chain, each exit learns from the next deeper one) or `both` (the mean of the two).
        logit_weight: Share of the distillation against the cross-entropy, in [0, 1]; RomeBERT's gamma.
        feature_weight: Weight b of the distance between features, at least 0; 0 leaves features alone.
        temperature: T that softens the logits of teacher and student, above 0.
        feature_loss: `cosine` (1 - cosine) or `mse` (mean squared difference).
        projection: Compare features after a linear projection of the student's, one an exit (used in training only).
        teacher: External teacher: Hub id or folder of any classifier for the same labels, a saved mebert model, or a
            checkpoint of mebert. It stands above the last exit: it teaches all exits (vanilla) or the last one
            (layerwise). Its logits are computed once a data set and kept in the cache.
        kwargs: The settings of MultiExitModule.
    """

    def __init__(
        self,
        distillation: DistillationKind = "layerwise",
        logit_weight: float = 0.5,
        feature_weight: float = 0.0,
        temperature: float = 2.0,
        feature_loss: FeatureLossKind = "cosine",
        projection: bool = False,
        teacher: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_range("logit_weight", logit_weight, 0.0, 1.0)
        check_range("feature_weight", feature_weight, 0.0)
        check_range("temperature", temperature, 0.0, low_open=True)
        if teacher is not None and distillation == "none":
            raise UserError(f"teacher {teacher!r} was given, but distillation is 'none'; choose vanilla or layerwise")
        if projection and not feature_weight:
            raise UserError("projection is true, but feature_weight is 0: no features are compared")
        super().__init__(**kwargs)
        self.distillation: DistillationKind = distillation
        self.logit_weight = logit_weight
        self.feature_weight = feature_weight
        self.temperature = temperature
        self.feature_loss: FeatureLossKind = feature_loss
        self._teacher = None if teacher is None else TeacherLogits(teacher)
        exits = self.model.num_exits
        # An external teacher stands above the last exit; it has no features to compare.
        self._on_logits = _Pairs(distillation, exits if teacher is not None else exits - 1)
        self._on_features = _Pairs(distillation if feature_weight else "none", exits - 1)
        self.share: Tensor  # of the distillation in each exit's loss
        share = torch.zeros(exits)
        share[: self._on_logits.num_students] = logit_weight
        self.register_buffer("share", share, persistent=False)
        self.projections: nn.ModuleList | None = None
        if projection:
            size = self.model.feature_size
            layers = [nn.Linear(size, size) for _ in range(exits - 1)]
            for layer in layers:  # it starts as the identity
                nn.init.eye_(layer.weight)
                nn.init.zeros_(layer.bias)
            self.projections = nn.ModuleList(layers)

    @property
    def learns_without_labels(self) -> bool:
        """By distillation, if there is any."""
        return self.distillation != "none" and bool(self.logit_weight or self.feature_weight)

    def on_fit_start(self) -> None:
        """Compute the external teacher's logits, or read them from the cache."""
        if self._teacher is not None:
            self._teacher.prepare(self.trainer)

    def compute_loss(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training `loss` and its parts `ce`, `kd` (logits) and `fd` (features); in evaluation the cross-entropy."""
        ce = self.per_exit_losses(outputs, batch)
        parts = {"ce": (self.exit_weights * ce).sum()}
        if not self.training:
            return {"loss": parts["ce"]}
        loss = parts["ce"]
        if self._on_logits.num_students and self.logit_weight:
            kd = F.pad(self._logit_distances(outputs, batch), (0, len(ce) - self._on_logits.num_students))
            parts["kd"] = (self.exit_weights * kd).sum()
            loss = (self.exit_weights * ((1.0 - self.share) * ce + self.share * kd)).sum()
        if self._on_features.num_students:
            parts["fd"] = (self.exit_weights[:-1] * self._feature_distances(outputs.features)).sum()
            loss = loss + self.feature_weight * parts["fd"]
        return {"loss": loss, **{name: value.detach() for name, value in parts.items()}}

    def _logit_distances(self, outputs: ExitOutputs, batch: Mapping[str, Tensor]) -> Tensor:
        """KD of each student, (S,)."""
        levels = outputs.logits.float()
        if self._teacher is not None:
            levels = torch.cat([levels, self._teacher.for_batch(batch["index"]).to(levels).unsqueeze(0)])
        pairs = self._on_logits
        distances = logit_distances(levels[pairs.students], levels[pairs.teachers], self.temperature)
        return pairs.average.to(distances.dtype) @ distances  # cast: the module may be in half precision

    def _feature_distances(self, features: Tensor) -> Tensor:
        """FD of each student, (E - 1,)."""
        pairs = self._on_features
        students = features[:-1]
        if self.projections is not None:
            students = torch.stack([layer(h) for layer, h in zip(self.projections, students, strict=True)])
        distances = feature_distances(students[pairs.students], features[pairs.teachers], self.feature_loss)
        return pairs.average.to(distances.dtype) @ distances


class _Pairs(nn.Module):
    """The pairs of a kind of distillation as index tensors on the module's device."""

    students: Tensor
    teachers: Tensor
    average: Tensor

    def __init__(self, kind: DistillationKind, num_students: int) -> None:
        super().__init__()
        pairs = distillation_pairs(kind, num_students)
        self.num_students = num_students if pairs else 0
        students, teachers = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T.contiguous()
        self.register_buffer("students", students, persistent=False)
        self.register_buffer("teachers", teachers, persistent=False)
        self.register_buffer("average", averaging_matrix(pairs, num_students), persistent=False)
