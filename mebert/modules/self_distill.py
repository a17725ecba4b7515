"""Self-distillation, the recipe to start with: the model's own last exit teaches all others while it learns itself."""

from __future__ import annotations

from typing import Any

from mebert.choices import PoolingKind
from mebert.losses import DistillationKind
from mebert.modules.curriculum_distill import CurriculumDistillModule
from mebert.policies import ExitPolicy, Stacked

HEADS_FASTER = 10.0


class SelfDistillModule(CurriculumDistillModule):
    """Joint training in which every exit learns half from the labels and half from the last exit, with fast heads.

    Nothing in it is new: distillation from the own last exit is that of Zhang et al., "Be Your Own Teacher" (ICCV
    2019), and of DynaBERT; heads start from random weights and so take ten times the encoder's learning rate, as the
    students of FastBERT and DeeBERT do in their second stage; exits read the masked mean over tokens; a text leaves by
    `Stacked`, with prototypes that are fitted to (at most 2,048) training rows before each validation; with loaders of
    your own, without tokenised rows, it does without them. What each part is worth: docs/recipe.md.

    Args:
        distillation: As in `CurriculumDistillModule`.
        pooling: As in `MultiExitModule`.
        head_learning_rate: Peak learning rate of all that is not the encoder; null: ten times `learning_rate`.
        kwargs: The settings of `CurriculumDistillModule` and `MultiExitModule`.
    """

    def __init__(
        self,
        distillation: DistillationKind = "vanilla",
        pooling: PoolingKind = "mean",
        head_learning_rate: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(distillation=distillation, pooling=pooling, head_learning_rate=head_learning_rate, **kwargs)
        if head_learning_rate is None:
            self.head_learning_rate = HEADS_FASTER * self.learning_rate

    def setup(self, stage: str) -> None:
        """Give `Stacked` prototypes to read, where there are tokenised training rows to fit them to."""
        super().setup(stage)
        rows = hasattr(getattr(self.trainer, "datamodule", None), "collate_for")
        if stage == "fit" and rows and isinstance(self.policy, Stacked):
            self.fit_indicators(exit_scorer=False)

    def default_policy(self) -> ExitPolicy:
        """`Stacked`, fitted on validation data, where a row has one class; elsewhere as in joint training."""
        if self.model.problem_type != "single_label_classification":
            return super().default_policy()
        return Stacked(self.threshold or 0.0)
