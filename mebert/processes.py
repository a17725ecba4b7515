"""Whether work is shared with other processes at this moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["alone", "gather_rows", "shared_by"]

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def shared_by() -> int:
    """How many processes run this code together."""
    if _ALONE.get() or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


@contextmanager
def alone() -> Iterator[None]:
    """For what one process does on its own while others wait: nothing inside may reduce over processes."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def gather_rows(rows: Tensor) -> Tensor:
    """Rows (n, ...) of every process, one after another: (W n, ...). All processes must hold equally many."""
    world = shared_by()
    if world == 1:
        return rows
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world)]
    torch.distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
