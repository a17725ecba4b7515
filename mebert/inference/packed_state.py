"""Hidden states without padding, how their rows lie, and which of them run together.

Shapes: B batch, S tokens of the longest row, T tokens of all rows together, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from mebert.inference.attention_plan import CACHED_SCORES, AttentionPlan, plan_attention, ranges
from mebert.models.layer_state import LayerState

BLOCK_TOKENS = 2048
"""Tokens that run through the layers together on a CPU with one or two threads (each further one adds half as many):
more do not stay in its cache; measured by benchmarks/attention.py --blocks."""


@dataclass(frozen=True)
class Planner:
    """How rows are put together.

    Attributes:
        bias: The family's attention bias for texts of so many tokens, (1, A, W, W), or None.
        scores: Most scores of one attention head in a group of rows that attend together; None: all rows are one
            group, which is fewer kernels and more padding.
        tokens: Tokens of the rows that run through the layers together, about, by one or two threads; None: all.
    """

    bias: Callable[[int], Tensor | None]
    scores: int | None = CACHED_SCORES
    tokens: int | None = BLOCK_TOKENS

    def plan(self, layout: Layout) -> AttentionPlan:
        """Which rows attend together."""
        return plan_attention(layout.spans, layout.mask, layout.holes, layout.dtype, self.scores, self.bias)

    def blocks(self, layout: Layout) -> list[Layout]:
        """Neighbouring rows that run through the layers together, about as many tokens in each block."""
        ends = np.cumsum(layout.spans)
        if self.tokens is None or not len(ends):
            return [layout]
        number = -(-int(ends[-1]) // (self.tokens * max(2, torch.get_num_threads()) // 2))
        if number == 1:
            return [layout]
        firsts = np.unique(np.searchsorted(ends, ends[-1] * np.arange(number) / number, side="right"))
        return [layout.part(first, end) for first, end in zip(firsts, [*firsts[1:], len(ends)], strict=True)]


@dataclass
class Layout:
    """How packed rows lie. What follows from it is computed when it is asked for: rows that wait for others never ask.

    Attributes:
        spans: Tokens of each row, up to its last that is not padding, (B,), on the host.
        holes: Whether a row has masked tokens within its span (padding on the left), (B,), on the host.
        mask: The tokenizer's, (B, S or longer); cut to S.
        dtype: Of the hidden states.
        planner: Puts rows together.
    """

    spans: np.ndarray
    holes: np.ndarray
    mask: Tensor
    dtype: torch.dtype
    planner: Planner

    def __post_init__(self) -> None:
        self.mask = self.mask[:, : int(self.spans.max()) if len(self.spans) else 0]

    def part(self, first: int, end: int) -> Layout:
        """The layout of neighbouring rows."""
        return Layout(self.spans[first:end], self.holes[first:end], self.mask[first:end], self.dtype, self.planner)

    @cached_property
    def plan(self) -> AttentionPlan:
        """Which rows attend together."""
        return self.planner.plan(self)

    @cached_property
    def blocks(self) -> list[Layout]:
        """Neighbouring rows that run through the layers together."""
        return self.planner.blocks(self)

    @cached_property
    def starts(self) -> Tensor:
        """Where each row starts among the packed tokens, (B,)."""
        return torch.from_numpy(np.cumsum(self.spans) - self.spans).to(self.mask.device)

    @cached_property
    def even(self) -> bool:
        """Whether all rows have the same number of tokens: padding them is a view."""
        return bool((self.spans == self.mask.shape[1]).all())

    @cached_property
    def pad(self) -> Tensor | None:
        """Packed token at every place of the padded rows, (B S,), or None where all spans are equal."""
        if self.even:
            return None
        batch, longest = self.mask.shape
        packed = np.zeros(batch * longest, dtype=np.int64)
        packed[ranges(np.arange(batch) * longest, self.spans)] = np.arange(int(self.spans.sum()))
        return torch.from_numpy(packed).to(self.mask.device)


@dataclass
class PackedState(LayerState):
    """The hidden states of a batch after some layers, (T, H): tokens of all rows, one row after the other."""

    layout: Layout = field(kw_only=True)

    @classmethod
    def of(cls, hidden: Tensor, layout: Layout, depth: int = 0, memory: Tensor | None = None) -> PackedState:
        """The state of packed rows (T, H)."""
        return cls(hidden, layout.mask, None, depth, memory, layout=layout)

    @override
    def keep(self, rows: Tensor) -> PackedState:
        own, places = self.layout, rows.cpu().numpy()
        spans = own.spans[places]
        starts = np.cumsum(own.spans) - own.spans
        tokens = ranges(starts[places], spans)
        rows = rows.to(self.hidden.device)
        hidden = self.hidden.index_select(0, torch.from_numpy(tokens).to(self.hidden.device))
        mask = self.attention_mask.index_select(0, rows)
        memory = None if self.memory is None else self.memory.index_select(0, rows)
        layout = Layout(spans, own.holes[places], mask, own.dtype, own.planner)
        return PackedState.of(hidden, layout, self.depth, memory)

    @override
    def padded(self) -> tuple[Tensor, Tensor]:
        """Hidden states (B, S, H), anything where there is padding, and mask (B, S)."""
        pad = self.layout.pad
        hidden = self.hidden if pad is None else self.hidden.index_select(0, pad)
        return hidden.view(*self.attention_mask.shape, -1), self.attention_mask
