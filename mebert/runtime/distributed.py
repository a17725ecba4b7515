"""Whether work is shared with other processes at this moment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

__all__ = ["PatientDDP", "gather_rows", "lost_process", "no_collectives", "world_size"]


class PatientDDP(DDPStrategy):
    """Lightning's `ddp` with another time after which a process that does not answer is given up.

    A process that dies is noticed at once, whatever this is.

    Args:
        timeout: Longer than what one process does while the others wait (tokenising a large corpus for the first time,
            training the teachers of a cross-review), which Lightning's half hour may not be.
    """

    def __init__(self, timeout: timedelta = timedelta(hours=2)) -> None:
        super().__init__(timeout=timeout)


# What gloo and NCCL say when the other side is gone or silent.
LOST = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|Timed out waiting|wait timeout|remote process (has )?(exited|died)"
    r"|ncclRemoteError|Socket Timeout"
)

_ALONE: ContextVar[bool] = ContextVar("no_collectives", default=False)


def world_size() -> int:
    """How many processes run this code together."""
    if _ALONE.get() or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def lost_process(error: BaseException) -> str | None:
    """What to tell of an error that another process of this run has caused by ending; None for any other error."""
    if not (isinstance(error, RuntimeError) and world_size() > 1 and LOST.search(str(error))):
        return None
    return (
        "another process of this run has ended, or has not answered for as long as trainer.strategy allows: its own "
        "message says why; mend that and start again (a training goes on with --ckpt_path last)"
    )


@contextmanager
def no_collectives() -> Iterator[None]:
    """For what one process does on its own while others wait: nothing inside may reduce over processes."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def gather_rows(rows: Tensor) -> Tensor:
    """Rows (n, ...) of every process, one after another: (W n, ...). All processes must hold equally many."""
    world = world_size()
    if world == 1:
        return rows
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world)]
    torch.distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
