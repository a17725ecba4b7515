"""The encoder adapter for fused layers, with packed hidden states: no padding.

Shapes: B batch, S tokens of the longest row, T tokens of all rows together, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from mebert.inference.attention_plan import ranges, rounded_up
from mebert.inference.packed_state import Layout, PackedState, Planner
from mebert.models.encoder import EncoderAdapter
from mebert.models.fastbert_pooling import FoldedFastBertPooling
from mebert.models.heads import ClsPooling, MeanPooling
from mebert.models.layer_state import LayerState, joined_memory

if TYPE_CHECKING:
    from mebert.models.heads import ExitHead


class FusedAdapter(EncoderAdapter):
    """Runs fused layers (a list for each layer of the encoder) after the embeddings of the family's own adapter.

    `grouped`: rows attend in groups of similar length and run in blocks, as a CPU's cache likes it.
    """

    def __init__(self, base: EncoderAdapter, layers: Sequence[Sequence[nn.Module]], grouped: bool = False) -> None:
        super().__init__(base.encoder)
        self.base = base
        self.layers = layers
        self.planner = Planner(self._bias) if grouped else Planner(self._bias, None, None)
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
            return self._state(hidden, spans, np.zeros(len(spans), dtype=bool), attention_mask)
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
        return self._state(hidden, spans, counts != spans, attention_mask)

    def _state(
        self,
        hidden: Tensor,
        spans: np.ndarray,
        holes: np.ndarray,
        mask: Tensor,
        depth: int = 0,
        memory: Tensor | None = None,
    ) -> PackedState:
        """The state of packed rows (T, H)."""
        return PackedState.of(hidden, Layout(spans, holes, mask, hidden.dtype, self.planner), depth, memory)

    @override
    def advance(self, state: LayerState, depth: int) -> LayerState:
        assert isinstance(state, PackedState)
        blocks = state.layout.blocks
        parts = state.hidden.split([int(block.spans.sum()) for block in blocks])
        done = [self._run(part, block, state.depth, depth) for part, block in zip(parts, blocks, strict=True)]
        return replace(state, hidden=done[0] if len(done) == 1 else torch.cat(done), depth=depth)

    def _run(self, tokens: Tensor, block: Layout, first: int, end: int) -> Tensor:
        """Layers `first` to `end` over the tokens of a block, (T, H)."""
        hidden = rounded_up(tokens)
        for layers in self.layers[first:end]:
            for layer in layers:
                hidden = layer(hidden, block.plan)
        return hidden[: len(tokens)]

    @override
    def join(self, states: Sequence[Any]) -> LayerState:
        if len(states) == 1:
            return states[0]
        width = max(state.attention_mask.shape[1] for state in states)
        masks = [F.pad(s.attention_mask, (0, width - s.attention_mask.shape[1])) for s in states]
        return self._state(
            torch.cat([state.hidden for state in states]),
            np.concatenate([state.layout.spans for state in states]),
            np.concatenate([state.layout.holes for state in states]),
            torch.cat(masks),
            states[0].depth,
            joined_memory(states),
        )

    @override
    def pool(self, state: LayerState, head: ExitHead) -> Tensor:
        """The head's pooled input, from the packed tokens where its pooling allows; padding costs a copy."""
        assert isinstance(state, PackedState)
        pooling, mask = head.pooling, state.attention_mask
        if type(pooling) is ClsPooling:
            return self.final_norm(state.hidden.index_select(0, state.layout.starts))
        state = replace(state, hidden=self.final_norm(state.hidden))
        if type(pooling) is MeanPooling and not state.layout.holes.any():
            if state.layout.even:
                return state.hidden.view(*mask.shape, -1).mean(1)
            # embedding_bag averages the rows of a table, here the tokens, and sums in float32 at any precision.
            every = torch.arange(state.hidden.shape[0], device=mask.device)
            return F.embedding_bag(every, state.hidden, state.layout.starts, mode="mean")
        if isinstance(pooling, FoldedFastBertPooling):
            tokens = torch.tanh(pooling.project(state.hidden))  # a sixth as wide as the hidden states of BERT-base
            tokens = tokens if state.layout.pad is None else tokens.index_select(0, state.layout.pad)
            return pooling.read(tokens.view(*mask.shape, -1), mask)
        return head.pool(*state.padded())
