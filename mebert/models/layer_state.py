"""Where a batch stands between two layers of an encoder. Shapes: B batch, S tokens, H hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LayerMask = Tensor | dict[str, Tensor | None] | None
"""What layers read as a mask, (B, ...): one for all, or one for each kind of layer; None: nothing is padded."""


@dataclass
class LayerState:
    """Where a batch stands inside the encoder.

    Attributes:
        hidden: Hidden states after `depth` layers, (B, S, H).
        attention_mask: The tokenizer's mask, (B, S), 1 for a token and 0 for padding.
        layer_mask: The mask in the form that the layers want.
        depth: Number of layers that have run.
        memory: What a model's earlier exits have left for its later ones, (B, ...); None: nothing.
        windows: How many of the B inputs are windows of each text, one text after the other, on the host; None: each
            input is a text.
    """

    hidden: Tensor
    attention_mask: Tensor
    layer_mask: LayerMask
    depth: int = 0
    memory: Tensor | None = None
    windows: np.ndarray | None = None

    def keep(self, rows: Tensor) -> LayerState:
        """The same state for some rows of the batch only: their numbers, (B',) int64, on any device."""
        rows = rows.to(self.hidden.device)
        mask = _rows_of(self.layer_mask, rows)
        memory = None if self.memory is None else self.memory.index_select(0, rows)
        hidden, attention_mask = self.hidden.index_select(0, rows), self.attention_mask.index_select(0, rows)
        return LayerState(hidden, attention_mask, mask, self.depth, memory)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Hidden states (B, S, H) and mask (B, S), as exit heads read them."""
        return self.hidden, self.attention_mask


def _rows_of(mask: LayerMask, rows: Tensor) -> LayerMask:
    if isinstance(mask, dict):
        return {kind: None if one is None else one.index_select(0, rows) for kind, one in mask.items()}
    return None if mask is None else mask.index_select(0, rows)


def joined_memory(states: Sequence[LayerState]) -> Tensor | None:
    """The memories of several states of one depth as one."""
    memories = [state.memory for state in states if state.memory is not None]
    return torch.cat(memories) if memories else None
