"""BERxiT's learning to exit: a small head, trained with the model, estimates how likely an exit is to be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from torch import Tensor, nn
from torch.nn import functional as F

from mebert.errors import UserError
from mebert.policies.base import ExitPolicy, recorded

if TYPE_CHECKING:
    from mebert.metrics.curve import ExitRecord
    from mebert.models.multi_exit import MultiExitModel


@dataclass
class LearnedToExit(ExitPolicy):
    """Leave when sigmoid(w h_i + b), the model's own estimate of being wrong, is below the threshold (EXACT).

    One Linear(F -> 1) for all exits, `model.exit_scorer`. Source: Xin et al., "BERxiT: Early Exiting for BERT with
    Better Fine-Tuning and Extension to Regression", EACL 2021.
    """

    name = "learned"

    @property
    def needs_exit_scorer(self) -> bool:
        return True

    def bind(self, model: MultiExitModel) -> Self:
        super().bind(model)
        if model.exit_scorer is None:
            raise UserError(
                f"the policy {self.name!r} needs a learning-to-exit head, and this model has none; "
                "train it with BERxiTModule or choose another policy"
            )
        self._scorer = model.exit_scorer
        return self

    @property
    def scorer(self) -> nn.Linear:
        scorer: nn.Linear | None = getattr(self, "_scorer", None)
        if scorer is None:
            raise UserError(f"the policy {self.name!r} is not bound to a model yet: call policy.bind(model)")
        return scorer

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        # In float32 whatever the precision of the layers, so that near scores are not rounded together.
        weight, bias = self.scorer.weight.float(), self.scorer.bias.float()
        return F.linear(features.float(), weight, bias).squeeze(-1).sigmoid()

    def score_record(self, record: ExitRecord) -> Tensor:
        return recorded(record, self.name, self.name)

    def flops(self) -> int:
        return 2 * self.scorer.in_features
