"""What PyTorch keeps for a whole process: default type, default device and random numbers are the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def plain_torch_state() -> Iterator[None]:
    """Inside, new tensors are float32 on the CPU; outside, nothing has changed: defaults and random numbers.

    For code that makes modules whose weights come from a file, or from another module: what they are first filled with
    is drawn for nothing.
    """
    dtype = torch.get_default_dtype()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        torch.set_default_dtype(torch.float32)
        with torch.random.fork_rng(devices), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
