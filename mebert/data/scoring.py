"""One pass over a whole split outside of the training steps: what every row gets from some model.

Shapes: N rows of the split, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mebert.data.samplers import PADDING_ROW, EvalSampler
from mebert.data.tokenised import TokenisedSplit
from mebert.runtime.distributed import gather_rows

__all__ = ["evaluation_mode", "map_rows", "score_split"]


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Every part in evaluation mode, and back to its own mode afterwards (a frozen part stays frozen)."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def score_split(
    trainer: L.Trainer,
    split: TokenisedSplit,
    collate_batch: Callable[..., dict[str, Tensor]],
    score_batch: Callable[[Mapping[str, Tensor]], Tensor],
    batch_size: int,
    tick: Callable[[], object] = lambda: None,
) -> Tensor:
    """Score all rows, the longest first, each process its share; every process gets the scores of all rows.

    Nothing is drawn from the global random state, so that training goes on as if there had been no pass.

    Args:
        trainer: Gives device, precision and processes.
        split: The rows.
        collate_batch: Rows to a batch, as in the split's loader.
        score_batch: A batch on the device to its scores (B, ...); run without gradients, in the trainer's precision.
        batch_size: Rows a batch and process.
        tick: Called after each batch of this process.

    Returns:
        (N, ...) float32 on the CPU, in the order of the split.
    """
    sampler = EvalSampler(split.lengths, trainer.world_size, trainer.global_rank)
    loader: DataLoader[Any] = DataLoader(
        split, batch_size, sampler=sampler, collate_fn=collate_batch, generator=torch.Generator()
    )
    device = trainer.strategy.root_device
    parts = []
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for batch in loader:
            moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
            parts.append(score_batch(moved).float())
            tick()
    # Each process holds equally many rows; those of process r are every world-size-th of the common order.
    values = gather_rows(torch.cat(parts)).cpu()
    order = torch.from_numpy(sampler.order)
    rows = torch.cat([order[rank :: trainer.world_size] for rank in range(trainer.world_size)])
    scores = torch.empty(len(split), *values.shape[1:])
    real = rows != PADDING_ROW
    scores[rows[real]] = values[real]
    return scores


@torch.no_grad()
def map_rows(
    rows: TokenisedSplit,
    collate_batch: Callable[..., dict[str, Tensor]],
    score_batch: Callable[[Mapping[str, Tensor]], Tensor],
    batch_size: int,
    device: torch.device,
    tick: Callable[[], object] = lambda: None,
) -> Tensor:
    """Score all rows, the longest first, in this process alone; `score_split` without a trainer.

    Args:
        rows: At least one.
        collate_batch: Rows to a batch.
        score_batch: A batch on the device to its scores (B, ...); run without gradients.
        batch_size: Rows a batch.
        device: Where the model is.
        tick: Called after each batch.

    Returns:
        (N, ...) float32 on the CPU, in the order of the rows.
    """
    order = np.argsort(-rows.lengths, kind="stable")
    parts = []
    for start in range(0, len(order), batch_size):
        batch = collate_batch([rows[int(row)] for row in order[start : start + batch_size]])
        parts.append(score_batch({name: value.to(device) for name, value in batch.items()}).float().cpu())
        tick()
    found = torch.cat(parts)
    scores = torch.empty_like(found)
    scores[torch.from_numpy(order)] = found
    return scores
