"""AdamW with linear warm-up and decay: the optimiser of every recipe unless it overrides it, and one of two stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from transformers import get_linear_schedule_with_warmup


def adamw_with_linear_decay(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    warmup_ratio: float,
    num_steps: int,
    own_rates: Sequence[tuple[nn.Parameter, float]] = (),
    fused: bool = True,
) -> dict[str, Any]:
    """What `configure_optimizers` returns.

    Weight decay falls on matrices only. `fused` uses that kernel on CPU and CUDA, where it exists; it does the same
    update in one pass over the weights, but Lightning cannot clip gradients before it in mixed precision (`may_fuse`).
    `warmup_ratio` is the share of the `num_steps` optimiser steps of the whole run with rising rate; the parameters in
    `own_rates` have a peak rate of their own.
    """
    own = {id(parameter) for parameter, _ in own_rates}
    by_rate = {learning_rate: [p for p in model.parameters() if id(p) not in own]}
    for parameter, rate in own_rates:
        by_rate.setdefault(rate, []).append(parameter)
    groups = [group for rate, part in by_rate.items() for group in _groups(part, rate, weight_decay)]
    optimizer = _adamw(groups, fused)
    schedule = get_linear_schedule_with_warmup(optimizer, round(warmup_ratio * num_steps), num_steps)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def two_stage_adamw(
    first: Iterable[nn.Parameter],
    second: Iterable[nn.Parameter],
    learning_rates: tuple[float, float],
    weight_decay: float,
    warmup_ratio: float,
    ends: tuple[int, int],
    fused: bool = True,
) -> dict[str, Any]:
    """What `configure_optimizers` returns where one part of the parameters is trained after the other.

    Each part's rate rises and falls within its own stage and is 0 outside of it. A parameter without a gradient is not
    touched by AdamW at all, weight decay included. `ends` are the optimiser steps after which stages 1 and 2 end;
    `fused` is as above.
    """
    begins = (0, ends[0])
    groups: list[dict[str, Any]] = []
    factors: list[Callable[[int], float]] = []
    for part, rate, begin, end in zip((first, second), learning_rates, begins, ends, strict=True):
        made = _groups(part, rate, weight_decay)
        groups += made
        factors += [partial(warmup_and_decay, begin=begin, end=end, warmup_ratio=warmup_ratio)] * len(made)
    optimizer = _adamw(groups, fused)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def allow_unused_parameters(trainer: Trainer) -> None:
    """Let DDP expect parameters without a gradient, for recipes of which some steps do not train everything.

    Lightning has a public way only in the name of the strategy (ddp_find_unused_parameters_true), which a user should
    not have to know.
    """
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)


def warmup_and_decay(step: int, begin: int, end: int, warmup_ratio: float) -> float:
    """Share of the peak rate at a step (from 0): linear up, from `begin`, and down again, to 0 at `end`; 0 outside.

    >>> [warmup_and_decay(step, 2, 6, 0.5) for step in range(8)]
    [0.0, 0.0, 0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    if not begin <= step < end:
        return 0.0
    warmup = round(warmup_ratio * (end - begin))
    done = step - begin
    return done / warmup if done < warmup else (end - step) / (end - begin - warmup)


def _groups(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of what is trained: matrices, and the rest without weight decay."""
    trained = [p for p in parameters if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay, "lr": learning_rate},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0, "lr": learning_rate},
    ]
    return [group for group in groups if group["params"]]


def _adamw(groups: list[dict[str, Any]], fused: bool) -> torch.optim.AdamW:
    fused = fused and all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, fused=fused)
