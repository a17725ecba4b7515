"""What engines return.

Shapes: B batch, C classes, n rows that finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ExitDecisions", "Finished"]


@dataclass
class ExitDecisions:
    """Where the samples of a batch left, in the batch's order.

    Attributes:
        logits: Logits of the exit taken, (B, C) float32.
        exits: 0-based exit taken, (B,) int64.
    """

    logits: Tensor
    exits: Tensor


@dataclass
class Finished:
    """The rows that an engine is done with, in any order.

    Attributes:
        rows: The caller's numbers, (n,) int64.
        logits: Logits of the exit taken, (n, C) float32.
        exits: 0-based exit taken, (n,) int64.
    """

    rows: Tensor
    logits: Tensor
    exits: Tensor

    def __len__(self) -> int:
        return self.rows.shape[0]

    @classmethod
    def none(cls, num_labels: int, device: torch.device) -> Finished:
        """No row at all."""
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(empty, torch.zeros(0, num_labels, device=device), empty)

    @classmethod
    def join(cls, parts: Sequence[Finished], num_labels: int, device: torch.device) -> Finished:
        """All parts as one."""
        if not parts:
            return cls.none(num_labels, device)
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([p.rows for p in parts]),
            torch.cat([p.logits for p in parts]),
            torch.cat([p.exits for p in parts]),
        )
