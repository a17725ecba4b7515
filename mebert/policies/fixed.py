"""Every sample at the same exit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.policies.base import ExitPolicy

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel


@dataclass
class FixedExit(ExitPolicy):
    """Every sample leaves at the same exit: the first layers alone.

    Args:
        threshold: 0 runs the full depth, as with every policy; any other value is not used.
        exit: Exit number, from 1.
    """

    exit: int = 1

    name = "fixed"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.threshold, tuple):
            raise UserError(f"FixedExit: one threshold alone, 0 or another, counts; got {len(self.threshold)} numbers")
        if self.exit < 1:
            raise UserError(f"FixedExit: exit must be at least 1, got {self.exit}")

    def bind(self, model: MultiExitModel) -> Self:
        if self.exit > model.num_exits:
            raise UserError(
                f"FixedExit: exit is {self.exit}, but the model has {model.num_exits} exit(s); choose one of these"
            )
        return super().bind(model)

    def score(self, exit_index: int, logits: Tensor, features: Tensor) -> Tensor:
        return torch.full((len(logits),), float(not self.may_leave(exit_index)), device=logits.device)

    def may_leave(self, exit_index: int) -> bool:
        return bool(self.threshold) and exit_index + 1 >= self.exit

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return torch.full((len(logits),), self.may_leave(exit_index), device=logits.device), state
