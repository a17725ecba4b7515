"""The encoder adapter for fused layers, with packed hidden states: no padding.

Shapes: B batch, S tokens of the longest row, T tokens of all rows together, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from mebert.inference.attention_plan import AttentionPlan, plan_attention, ranges, rounded_up
from mebert.models.encoder import EncoderAdapter
from mebert.models.fastbert_pooling import FoldedFastBertPooling
from mebert.models.heads import ClsPooling, MeanPooling
from mebert.models.layer_state import LayerState, joined_memory

if TYPE_CHECKING:
    from mebert.models.heads import ExitHead

Planner = Callable[[np.ndarray, Tensor, np.ndarray, torch.dtype], AttentionPlan]
"""The plan of rows by their spans, mask, holes and the dtype of scores, as `plan_attention` makes it."""


@dataclass
class PackedState(LayerState):
    """The hidden states of a batch after some layers, without padding.

    Attributes:
        hidden: Tokens of all rows, one row after the other, (T, H).
        attention_mask: (B, S), S the longest of `spans`.
        layer_mask: None; `plan` has the attention masks.
        spans: Tokens of each row, up to its last that is not padding, (B,), on the host.
        holes: Whether a row has masked tokens within its span (padding on the left), (B,), on the host.
        starts: Where each row starts among the packed tokens, (B,).
        pad: Packed token at every place of the padded rows, (B S,), or None where all spans are equal.
        plan: Which rows attend together.
        planner: How the plan was made, for other rows.
    """

    spans: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    holes: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    starts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    pad: Tensor | None = None
    plan: AttentionPlan = field(default_factory=lambda: AttentionPlan([]))
    planner: Planner = plan_attention

    @override
    def keep(self, rows: Tensor) -> PackedState:
        places = rows.cpu().numpy()
        spans = self.spans[places]
        starts = np.cumsum(self.spans) - self.spans
        tokens = ranges(starts[places], spans)
        rows = rows.to(self.hidden.device)
        hidden = self.hidden.index_select(0, torch.from_numpy(tokens).to(self.hidden.device))
        mask = self.attention_mask.index_select(0, rows)
        memory = None if self.memory is None else self.memory.index_select(0, rows)
        return _laid_out(hidden, mask, spans, self.holes[places], self.depth, self.planner, memory)

    @override
    def padded(self) -> tuple[Tensor, Tensor]:
        """Hidden states (B, S, H), anything where there is padding, and mask (B, S)."""
        hidden = self.hidden if self.pad is None else self.hidden.index_select(0, self.pad)
        return hidden.view(*self.attention_mask.shape, -1), self.attention_mask


def _laid_out(
    hidden: Tensor,
    mask: Tensor,
    spans: np.ndarray,
    holes: np.ndarray,
    depth: int,
    planner: Planner,
    memory: Tensor | None = None,
) -> PackedState:
    """The state of packed rows (T, H), with its attention plan; `mask` (B, S or longer) is cut to the longest row."""
    longest = int(spans.max()) if len(spans) else 0
    mask = mask[:, :longest]
    pad = None
    if not bool((spans == longest).all()):
        packed = np.zeros(len(spans) * longest, dtype=np.int64)
        packed[ranges(np.arange(len(spans)) * longest, spans)] = np.arange(int(spans.sum()))
        pad = torch.from_numpy(packed).to(hidden.device)
    plan = planner(spans, mask, holes, hidden.dtype)
    starts = torch.from_numpy(np.cumsum(spans) - spans).to(hidden.device)
    return PackedState(hidden, mask, None, depth, memory, None, spans, holes, starts, pad, plan, planner)


class FusedAdapter(EncoderAdapter):
    """Runs fused layers (a list for each layer of the encoder) after the embeddings of the family's own adapter.

    `scores` are the most scores of one attention head in a group of rows that attend together; None: all rows are one
    group, which is fewer kernels and more padding.
    """

    def __init__(self, base: EncoderAdapter, layers: Sequence[Sequence[nn.Module]], scores: int | None = None) -> None:
        super().__init__(base.encoder)
        self.base = base
        self.layers = layers
        self.planner = partial(plan_attention, scores=scores, bias=self._bias)
        self._longest: Tensor | None = None  # attention bias

    @property
    @override
    def max_length(self) -> int:
        return self.base.max_length

    @override
    def flops(self, lengths: Tensor, depth: int) -> Tensor:
        return self.base.flops(lengths, depth)

    @override
    def final_norm(self, hidden: Tensor) -> Tensor:
        return self.base.final_norm(hidden)

    def _bias(self, tokens: int) -> Tensor | None:
        """The family's attention bias (1, A, S, S) for texts of so many tokens, a part of the longest one so far."""
        if self._longest is None or self._longest.shape[-1] < tokens:
            self._longest = self.base.attention_bias(tokens)
        return None if self._longest is None else self._longest[..., :tokens, :tokens]

    @override
    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        return self.base.embed(input_ids, token_type_ids)

    @override
    def start(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> PackedState:
        """Embed a batch and drop its padding. Two synchronisations at most, for the lengths."""
        if bool(attention_mask.all()):  # one text, or texts of one length
            spans = np.full(attention_mask.shape[0], attention_mask.shape[1])
            hidden = self.embed(input_ids, token_type_ids).flatten(0, 1)
            return _laid_out(hidden, attention_mask, spans, np.zeros(len(spans), dtype=bool), 0, self.planner)
        columns = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
        there = (attention_mask != 0).long()
        spans, counts = torch.stack([(there * columns).amax(1), there.sum(1)]).cpu().numpy()
        spans = np.maximum(spans, 1)
        longest = int(spans.max())
        if token_type_ids is not None:
            token_type_ids = token_type_ids[:, :longest]
        hidden = self.embed(input_ids[:, :longest], token_type_ids).flatten(0, 1)
        if int(spans.min()) < longest:
            tokens = ranges(np.arange(len(spans)) * longest, spans)
            hidden = hidden.index_select(0, torch.from_numpy(tokens).to(hidden.device))
        return _laid_out(hidden, attention_mask, spans, counts != spans, 0, self.planner)

    @override
    def advance(self, state: LayerState, depth: int) -> LayerState:
        assert isinstance(state, PackedState)
        hidden = rounded_up(state.hidden)
        for index in range(state.depth, depth):
            for layer in self.layers[index]:
                hidden = layer(hidden, state.plan)
        return replace(state, hidden=hidden[: len(state.hidden)], depth=depth)

    @override
    def join(self, states: Sequence[Any]) -> LayerState:
        if len(states) == 1:
            return states[0]
        width = max(state.attention_mask.shape[1] for state in states)
        masks = [F.pad(s.attention_mask, (0, width - s.attention_mask.shape[1])) for s in states]
        return _laid_out(
            torch.cat([state.hidden for state in states]),
            torch.cat(masks),
            np.concatenate([state.spans for state in states]),
            np.concatenate([state.holes for state in states]),
            states[0].depth,
            self.planner,
            joined_memory(states),
        )

    @override
    def pool(self, state: LayerState, head: ExitHead) -> Tensor:
        """The head's pooled input, from the packed tokens where its pooling allows; padding costs a copy."""
        assert isinstance(state, PackedState)
        pooling, mask = head.pooling, state.attention_mask
        if type(pooling) is ClsPooling:
            return self.final_norm(state.hidden.index_select(0, state.starts))
        state = replace(state, hidden=self.final_norm(state.hidden))
        if type(pooling) is MeanPooling and not state.holes.any():
            if state.pad is None:
                return state.hidden.view(*mask.shape, -1).mean(1)
            # embedding_bag averages the rows of a table, here the tokens, and sums in float32 at any precision.
            every = torch.arange(state.hidden.shape[0], device=mask.device)
            return F.embedding_bag(every, state.hidden, state.starts, mode="mean")
        if isinstance(pooling, FoldedFastBertPooling):
            tokens = torch.tanh(pooling.project(state.hidden))  # a sixth as wide as the hidden states of BERT-base
            tokens = tokens if state.pad is None else tokens.index_select(0, state.pad)
            return pooling.read(tokens.view(*mask.shape, -1), mask)
        return head.pool(*state.padded())
