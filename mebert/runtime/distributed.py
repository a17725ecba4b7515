"""Distributed training: the number of processes, a lost one, collectives switched off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

# What gloo says of a peer that is gone or silent is a RuntimeError that begins with the place in its transport; its
# other errors begin with "[enforce fail at ...". NCCL's have types of PyTorch's own, and one of its codes is for this.
GLOO_TRANSPORT = re.compile(r"\[\S*gloo/transport/\S+\] ")
NCCL_LOST = re.compile(r"ncclRemoteError|Socket Timeout|wait timeout")

_ALONE: ContextVar[bool] = ContextVar("no_collectives", default=False)


def world_size() -> int:
    """Number of processes that run this code together; 1 inside `no_collectives`."""
    if _ALONE.get() or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def lost_process(error: BaseException) -> str | None:
    """A message for an error that was caused by the end of another process of this run; None for any other error."""
    if not isinstance(error, RuntimeError) or world_size() == 1:
        return None
    nccl = isinstance(error, torch.distributed.DistBackendError) and NCCL_LOST.search(str(error))
    if not (nccl or isinstance(error, torch.distributed.DistNetworkError) or GLOO_TRANSPORT.match(str(error))):
        return None
    return (
        "another process of this run has ended, or has not answered for as long as trainer.strategy allows: its own "
        "message says why; fix that and start again (a training resumes with --ckpt_path last)"
    )


@contextmanager
def no_collectives() -> Iterator[None]:
    """A context for what one process does while the others wait: `world_size` is 1, and nothing is reduced."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def gather_rows(rows: Tensor) -> Tensor:
    """Rows (n, ...) of every process, one after another: (W n, ...). All processes must hold equally many."""
    if (world := world_size()) == 1:
        return rows
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world)]
    torch.distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
