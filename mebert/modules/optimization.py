"""AdamW with linear warm-up and decay: the optimiser of every recipe unless it overrides it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import get_linear_schedule_with_warmup

__all__ = ["adamw_with_linear_decay"]


def adamw_with_linear_decay(
    model: nn.Module, learning_rate: float, weight_decay: float, warmup_ratio: float, num_steps: int
) -> dict[str, Any]:
    """What `configure_optimizers` returns.

    Weight decay falls on matrices only. The fused kernel is used on CPU and CUDA, where it exists; it does the same
    update in one pass over the weights.

    Args:
        model: Its parameters that require a gradient are trained.
        learning_rate: Peak rate.
        weight_decay: For parameters of two or more dimensions.
        warmup_ratio: Share of `num_steps` with rising rate.
        num_steps: Optimiser steps of the whole run.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in trained)
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, fused=fused)
    schedule = get_linear_schedule_with_warmup(optimizer, round(warmup_ratio * num_steps), num_steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
