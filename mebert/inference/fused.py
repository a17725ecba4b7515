"""Transformer layers for inference: one projection for query, key and value, and no operation on padding.

A layer takes its weights from the Hugging Face layer, for all supported families. Hidden states are packed: only real
tokens, one row after the other, so that projections, LayerNorm and activations never see padding, and rows of any
length can be joined. Only attention runs on padded rows, in groups of similar length. Temporary results are changed in
place, because allocating memory costs more than the activation function.
Shapes: B batch, S tokens of the longest row, T tokens of all rows together, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mebert.inference.attention_plan import AttentionGroup, AttentionPlan, attend
from mebert.models.encoder import EncoderAdapter, LayerParts


def joined_linear(linears: Sequence[nn.Linear]) -> nn.Linear:
    """One projection for several of the same input; a single one as it is."""
    first = linears[0]
    if len(linears) == 1:
        return first
    size, kind = (
        sum(linear.out_features for linear in linears),
        {"device": first.weight.device, "dtype": first.weight.dtype},
    )
    joined = nn.Linear(first.in_features, size, bias=first.bias is not None, **kind)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([linear.weight for linear in linears]))
        if first.bias is not None:
            joined.bias.copy_(torch.cat([linear.bias for linear in linears]))
    return joined


def in_place(activation: Any) -> Callable[[Tensor], Tensor]:
    """The same activation function, changing its input where it can."""
    if activation is F.gelu or getattr(activation, "act", None) is F.gelu:
        found: Callable[[Tensor], Tensor] = torch.ops.aten.gelu_
        return found
    return partial(F.silu, inplace=True) if isinstance(activation, nn.SiLU) else activation


class FusedLayer(nn.Module):
    """One layer in evaluation mode, with its own copy of the projections of query, key and value; other parts shared.

    Args:
        layer: A Hugging Face layer.
        parts: The names of its parts.
    """

    def __init__(self, layer: Any, parts: LayerParts) -> None:
        super().__init__()
        found = {part: attrgetter(path)(layer) for part, path in asdict(parts).items() if isinstance(path, str)}
        linears, activation = [found[name] for name in ("query", "key", "value")], found["activation"]
        self.out, self.up, self.down = found["out"], found["up"], found["down"]
        self.attention_norm, self.output_norm = found["attention_norm"], found["output_norm"]
        self.heads, self.norm_first = found["heads"], parts.norm_first
        self.qkv, self.activation = joined_linear(linears), in_place(activation)

    def forward(self, hidden: Tensor, plan: AttentionPlan) -> Tensor:
        """Packed hidden states (T, H) to those after the layer, (T, H)."""
        first = self.norm_first
        context = plan.run(self.qkv(self.attention_norm(hidden) if first else hidden), self._attend)
        hidden = self.out(context).add_(hidden)
        if not first:
            hidden = self.attention_norm(hidden)
        inner = self.activation(self.up(self.output_norm(hidden) if first else hidden))
        result: Tensor = self.down(inner).add_(hidden)
        return result if first else self.output_norm(result)

    def _attend(self, qkv: Tensor, group: AttentionGroup) -> Tensor:
        """Padded queries, keys and values of a group (n W, 3 H) to attention outputs, (n W, H)."""
        query, key, value = qkv.view(group.rows, group.tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = attend(query, key, value, group.mask)
        return context.transpose(1, 2).reshape(group.rows * group.tokens, -1)


def fused_bert(adapter: EncoderAdapter) -> list[list[FusedLayer]] | None:
    """The layers of an encoder of BERT's shape, fused; None where its parts are not known.

    A list each, because a layer of ALBERT may consist of several; layers that share their weights share the fused form.
    """
    parts = adapter.layer_parts
    if parts is None:
        return None
    made: dict[int, FusedLayer] = {}
    for layer in chain.from_iterable(map(adapter.layers_of, range(adapter.num_layers))):
        if id(layer) not in made:
            made[id(layer)] = FusedLayer(layer, parts)
    return [[made[id(layer)] for layer in adapter.layers_of(index)] for index in range(adapter.num_layers)]
