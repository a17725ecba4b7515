"""Scores of each training row's difficulty: the newest, and those by which the current epoch is ordered.

Shapes: N rows of the split, n rows of a few batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mebert.errors import UserError


class DifficultyTable:
    """Scores by row; NaN for a row without one.

    Args:
        index: Row numbers in the raw split (N,), rising, as batches carry them.
        smoothing: Weight of a row's older score against the newest, in [0, 1).
    """

    def __init__(self, index: np.ndarray, smoothing: float = 0.0) -> None:
        self.index = index
        self.smoothing = smoothing
        self.latest = np.full(len(index), np.nan, dtype=np.float32)
        self.in_use: np.ndarray | None = None
        self.epoch = -1

    def update(self, index: np.ndarray, scores: np.ndarray) -> None:
        """Add new finite scores (n,) of rows, as numbered in the raw split (n,); of equal ones the last counts."""
        places = np.searchsorted(self.index, index)
        older = self.latest[places]
        smoothed = self.smoothing * older + (1.0 - self.smoothing) * scores
        self.latest[places] = np.where(np.isnan(older), scores, smoothed)

    def freeze(self, epoch: int) -> None:
        """Order an epoch by the current scores; later updates do not change it."""
        self.in_use = None if np.isnan(self.latest).all() else self.latest.copy()
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        in_use: Tensor | None = None if self.in_use is None else torch.from_numpy(self.in_use.copy())
        return {"latest": torch.from_numpy(self.latest.copy()), "in_use": in_use, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        latest = state["latest"].numpy()
        if len(latest) != len(self.index):
            raise UserError(
                f"the checkpoint's curriculum has {len(latest)} training rows, but this data has {len(self.index)}; "
                "resume with the data that the run was started with"
            )
        self.latest = latest.copy()
        self.in_use = None if state["in_use"] is None else state["in_use"].numpy().copy()
        self.epoch = int(state["epoch"])
