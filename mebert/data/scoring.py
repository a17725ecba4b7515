"""Passes over a whole split outside of the training steps: what a model computes for every row.

Shapes: N rows of the split, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mebert.data.samplers import PADDING_ROW, EvalSampler
from mebert.data.tokenised import TokenisedSplit
from mebert.runtime.distributed import gather_rows

if TYPE_CHECKING:
    from lightning import Trainer


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put every part in evaluation mode, and each back to its own mode afterwards (a frozen part stays frozen)."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def map_rows(
    rows: TokenisedSplit,
    collate_batch: Callable[..., dict[str, Tensor]],
    score_batch: Callable[[Mapping[str, Tensor]], Tensor],
    batch_size: int,
    device: torch.device,
    tick: Callable[[], object] = lambda: None,
    replicas: int = 1,
    rank: int = 0,
) -> Tensor:
    """Apply `score_batch` to all rows, the longest first, each process to its share; all get the values of all rows.

    Nothing is drawn from the global random state, so that a pass leaves training as it is. `score_batch` maps a batch
    on the device to values (B, ...), without gradients; the result (N, ...) is float32 on the CPU, in the order of the
    rows. `tick` is called after each batch of this process.
    """
    order = EvalSampler(rows.lengths, replicas, rank).order
    share, parts = order[rank::replicas], []
    for start in range(0, len(share), batch_size):
        batch = collate_batch([rows[int(row)] for row in share[start : start + batch_size]])
        moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        parts.append(score_batch(moved).float())
        tick()
    found = torch.cat(parts)
    values = (gather_rows(found) if replicas > 1 else found).cpu()
    # The processes hold equally many rows; those of process r are every replicas-th of the common order.
    places = torch.cat([torch.from_numpy(order[process::replicas]) for process in range(replicas)])
    real = places != PADDING_ROW
    scores = torch.empty(len(rows), *values.shape[1:])
    scores[places[real]] = values[real]
    return scores


def score_split(
    trainer: Trainer,
    split: TokenisedSplit,
    collate_batch: Callable[..., dict[str, Tensor]],
    score_batch: Callable[[Mapping[str, Tensor]], Tensor],
    batch_size: int,
    tick: Callable[[], object] = lambda: None,
) -> Tensor:
    """`map_rows` with a trainer's device, precision and processes."""
    world = trainer.world_size, trainer.global_rank
    with trainer.precision_plugin.forward_context():
        return map_rows(split, collate_batch, score_batch, batch_size, trainer.strategy.root_device, tick, *world)
