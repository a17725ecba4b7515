"""Layers of ModernBERT and EuroBERT for inference: rotary positions on packed tokens, local attention in blocks.

Shapes: T packed tokens, H hidden, n rows of a group, W tokens of its longest row, A heads, G heads of keys and values,
D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from mebert.inference.attention_plan import AttentionGroup, AttentionPlan, attend
from mebert.inference.fused import in_place, joined_linear

# The norm before attention, projections of query, key and value, the one after attention; the norm before the
# feed-forward part, its first projections (what is activated, and the gate), activation function, second projection.
MODERNBERT_PARTS = (("attn_norm", "attn.Wo", "mlp_norm", "mlp.act", "mlp.Wo"), ("attn.Wqkv",), ("mlp.Wi",))
EUROBERT_PARTS = (
    ("input_layernorm", "self_attn.o_proj", "post_attention_layernorm", "mlp.act_fn", "mlp.down_proj"),
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("mlp.gate_proj", "mlp.up_proj"),
)

BLOCK = 4
"""Queries of a block of local attention, in windows (a window: tokens on each side that are seen)."""


class Rotation(nn.Module):
    """Cosines and sines of all positions, (S, D): one for all layers of a kind."""

    def __init__(self, cosines: Tensor, sines: Tensor) -> None:
        super().__init__()
        half = cosines.shape[-1] // 2  # Hugging Face has every angle twice
        self.table = nn.Buffer(torch.cat([cosines[0, :, :half], sines[0, :, :half]], -1))

    def forward(self, heads: Tensor, positions: Tensor) -> None:
        """Turn heads (T, k, D) by their tokens' positions (T,), in place."""
        cosines, sines = self.table.index_select(0, positions).float().unsqueeze(1).chunk(2, -1)
        first, second = heads.chunk(2, -1)
        turned = first * cosines - second * sines
        second.copy_(second * cosines + first * sines)
        first.copy_(turned)


class PreNormLayer(nn.Module):
    """One layer in evaluation mode.

    Args:
        layer: Hugging Face's layer.
        parts: The names of its parts, as above.
        rotation: Its positions.
        heads: A and G.
        window: Tokens on each side that are seen; None: all.
    """

    def __init__(
        self, layer: Any, parts: Sequence[Sequence[str]], rotation: Rotation, heads: tuple[int, int], window: int | None
    ) -> None:
        super().__init__()
        self.attention_norm, self.out, self.mlp_norm, activation, self.down = attrgetter(*parts[0])(layer)
        self.qkv, self.up = (joined_linear([attrgetter(name)(layer) for name in names]) for names in parts[1:])
        self.activation = in_place(activation)
        self.rotation, self.window = rotation, window
        self.heads, self.groups = heads
        self.turned = self.heads + self.groups

    def forward(self, hidden: Tensor, plan: AttentionPlan) -> Tensor:
        """Packed hidden states (T, H) to those after the layer, (T, H)."""
        qkv = self.qkv(self.attention_norm(hidden)).unflatten(-1, (self.turned + self.groups, -1))
        positions = plan.positions.to(hidden.device)
        self.rotation(qkv[: len(positions), : self.turned], positions)
        hidden = self.out(plan.run(qkv.flatten(1), self._attend)).add_(hidden)
        inner, gate = self.up(self.mlp_norm(hidden)).chunk(2, -1)
        result: Tensor = self.down(self.activation(inner).mul_(gate)).add_(hidden)
        return result

    def _attend(self, qkv: Tensor, group: AttentionGroup) -> Tensor:
        """Padded queries, keys and values of a group (n W, (A + 2 G) D) to attention outputs, (n W, A D)."""
        heads = qkv.view(group.rows, group.tokens, self.turned + self.groups, -1).transpose(1, 2)
        query, key, value = heads.split([self.heads, self.groups, self.groups], 1)
        if self.groups < self.heads:
            key, value = (x.repeat_interleave(self.heads // self.groups, 1) for x in (key, value))
        if self.window is None or group.tokens <= self.window + 1:
            context = attend(query, key, value, group.mask)
        else:
            context = attend_locally(query, key, value, group.mask, self.window)
        return context.transpose(1, 2).reshape(group.rows * group.tokens, -1)


def attend_locally(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, window: int) -> Tensor:
    """Attention to the tokens at most `window` away, block by block; as `attend` otherwise, all (n, A, W, D)."""
    tokens, block, parts = query.shape[2], BLOCK * max(window, 8), []
    for start in range(0, tokens, block):
        end = min(start + block, tokens)
        first, last = max(0, start - window), min(tokens, end + window)
        apart = torch.arange(first, last, device=query.device) - torch.arange(start, end, device=query.device)[:, None]
        near = query.new_zeros(apart.shape).masked_fill_(apart.abs() > window, float("-inf"))[None, None]
        if mask is not None:  # padding sees itself: a token without any other would become NaN, which spreads
            near = (near + mask[..., first:last]).masked_fill_(apart == 0, 0.0)
        parts.append(attend(query[:, :, start:end], key[:, :, first:last], value[:, :, first:last], near))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


@torch.no_grad()
def fused_modernbert(encoder: Any) -> list[list[nn.Module]]:
    """The layers of a ModernBERT, fused."""
    config, places = encoder.config, torch.arange(encoder.config.max_position_embeddings).unsqueeze(0)

    @cache
    def rotation(kind: str) -> Rotation:
        return Rotation(*encoder.rotary_emb(encoder.final_norm.weight, places, kind))

    heads = config.num_attention_heads, config.num_attention_heads
    windows = {"full_attention": None, "sliding_attention": config.sliding_window}
    return [
        [PreNormLayer(layer, MODERNBERT_PARTS, rotation(kind), heads, windows[kind])]
        for layer, kind in zip(encoder.layers, config.layer_types, strict=False)
    ]


@torch.no_grad()
def fused_eurobert(encoder: Any) -> list[list[nn.Module]]:
    """The layers of a EuroBERT, fused."""
    config, places = encoder.config, torch.arange(encoder.config.max_position_embeddings).unsqueeze(0)
    rotation = Rotation(*encoder.rotary_emb(encoder.norm.weight, places))
    heads = config.num_attention_heads, config.num_key_value_heads
    return [[PreNormLayer(layer, EUROBERT_PARTS, rotation, heads, None)] for layer in encoder.layers]
