"""A policy's state, filtered and joined together with the rows that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["join_states", "keep_state"]


def keep_state(state: Any, rows: Tensor) -> Any:
    """The state of some rows.

    Args:
        state: None, a tensor with the batch first, or a tuple of such.
        rows: Row numbers, (B',) int64.
    """
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    return tuple(keep_state(part, rows) for part in state)


def join_states(states: Sequence[Any]) -> Any:
    """The states of several groups of rows, one after another; all of one shape."""
    first = states[0]
    if first is None or len(states) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(states))
    return tuple(join_states([state[i] for state in states]) for i in range(len(first)))
