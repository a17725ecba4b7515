"""DeBERTa's layers for inference: scores against relative positions from tables that are projected once.

Hugging Face projects its table of positions at every call, computes scores against all of it, and gathers those it
needs. Here the projected tables are kept, only the positions of a group are used, and since the position of a pair of
tokens depends on their distance alone, the scores that are needed are a view of the computed ones.
Shapes: n rows of a group, W tokens of its longest row, R = 2 W - 1 distances, A heads, D width of a head, H = A D.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from mebert.inference.attention_plan import LANES, AttentionGroup, AttentionPlan, attend
from mebert.inference.fused import FusedLayer, in_place
from mebert.models.encoder import LayerParts

PARTS = LayerParts(query="attention.self.query_proj", key="attention.self.key_proj", value="attention.self.value_proj")


class Distances(nn.Module):
    """The row of the table of positions for each distance of two tokens; one for all layers.

    Args:
        stack: DeBERTa's `encoder`.
        longest: Most tokens of a text.
    """

    def __init__(self, stack: Any, longest: int) -> None:
        super().__init__()
        self.most = longest + LANES  # a group may be wider than its longest text
        tokens = torch.empty(self.most, 1)
        below = stack.get_rel_pos(tokens)[0, :, 0]  # of distances 0, 1, ...; the others are their negatives
        rows = torch.cat([-below.flip(0)[:-1], below]) + stack.rel_embeddings.num_embeddings // 2
        rows = rows.clamp(0, stack.rel_embeddings.num_embeddings - 1)
        self.rising, self.falling = nn.Buffer(rows), nn.Buffer(rows.flip(0))

    def of(self, table: Tensor, tokens: int, rising: bool) -> Tensor:
        """The rows of a table (A, P, D) for the distances 1 - W to W - 1, or falling, as (A, D, R)."""
        rows = (self.rising if rising else self.falling).narrow(0, self.most - tokens, 2 * tokens - 1)
        return table.index_select(1, rows).transpose(1, 2)


class FusedDebertaLayer(FusedLayer):
    """One layer; the first may have DeBERTa-v2's convolution after it.

    Args:
        layer: Hugging Face's layer.
        stack: DeBERTa's `encoder`, which has the table of positions.
        distances: What all layers share; None: without relative positions.
        conv: The convolution, or None.
    """

    keys: Tensor | None  # content to position: the projected table, (A, P, D)
    queries: Tensor | None  # position to content

    def __init__(self, layer: Any, stack: Any, distances: Distances | None, conv: Any = None) -> None:
        super().__init__(layer, PARTS)
        own = layer.attention.self
        kinds = {"c2p", "p2c"} & {*own.pos_att_type}
        self.scale = (own.attention_head_size * (1 + len(kinds))) ** -0.5
        self.distances, self.conv = distances, conv
        if conv is not None:
            from transformers.activations import ACT2FN  # with the model, not at start-up

            self.conv_activation = in_place(ACT2FN[conv.conv_act])
        tables: dict[str, Tensor | None] = {"c2p": None, "p2c": None}
        if distances is not None:
            table = stack.get_rel_embedding()
            for kind, shared, alone in (("c2p", "key_proj", "pos_key_proj"), ("p2c", "query_proj", "pos_query_proj")):
                if kind in kinds:
                    rows = getattr(own, shared if own.share_att_key else alone)(table).detach() * self.scale
                    tables[kind] = rows.unflatten(-1, (self.heads, -1)).transpose(0, 1).contiguous()  # (A, P, D)
        self.register_buffer("keys", tables["c2p"])
        self.register_buffer("queries", tables["p2c"])

    @override
    def forward(self, hidden: Tensor, plan: AttentionPlan) -> Tensor:
        out = super().forward(hidden, plan)
        if self.conv is None:
            return out
        near = self.conv_activation(plan.run(hidden, self._convolve))
        result: Tensor = self.conv.LayerNorm(near.add_(out))
        return result

    def _convolve(self, hidden: Tensor, group: AttentionGroup) -> Tensor:
        rows = hidden.view(group.rows, group.tokens, -1)
        if group.mask is not None:  # padding, which may hold anything, is a neighbour of tokens
            rows = rows.masked_fill(group.mask.view(group.rows, group.tokens, 1) != 0, 0)
        out: Tensor = self.conv.conv(rows.transpose(1, 2)).transpose(1, 2)
        return out.reshape(group.rows * group.tokens, -1)

    @override
    def _attend(self, qkv: Tensor, group: AttentionGroup) -> Tensor:
        query, key, value = qkv.view(group.rows, group.tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = attend(query, key, value, self._scores(qkv, group), scale=self.scale)
        return context.transpose(1, 2).reshape(group.rows * group.tokens, -1)

    def _scores(self, qkv: Tensor, group: AttentionGroup) -> Tensor | None:
        """What is added to the products of queries and keys: scores against positions (n, A, W, W), and the mask."""
        found = group.mask
        query, key, _ = qkv.view(group.rows * group.tokens, 3, self.heads, -1).permute(1, 2, 0, 3)  # (A, n W, D)
        n, w = group.rows, group.tokens
        shape, outer = (n, self.heads, w, w), (w * (2 * w - 1), n * w * (2 * w - 1))
        if self.keys is not None and self.distances is not None:
            near = torch.bmm(query, self.distances.of(self.keys, w, rising=False))  # (A, n W, R), R falling
            near = near.as_strided(shape, (*outer, 2 * w - 2, 1), w - 1)
            found = near if found is None else near + found
        if self.queries is not None and self.distances is not None:
            near = torch.bmm(key, self.distances.of(self.queries, w, rising=True))
            near = near.as_strided(shape, (*outer, 1, 2 * w - 2), w - 1)
            found = near if found is None else near + found
        return found


def fused_deberta(encoder: Any) -> list[list[FusedLayer]]:
    """The layers of a DeBERTa, fused."""
    stack = encoder.encoder
    distances = Distances(stack, encoder.config.max_position_embeddings) if stack.relative_attention else None
    return [
        [FusedDebertaLayer(layer, stack, distances, stack.conv if index == 0 else None)]
        for index, layer in enumerate(stack.layer)
    ]
