"""Transformer layers for inference: one projection for query, key and value, and no operation on padding.

A layer takes its weights from the Hugging Face layer, for all supported families. Hidden states are packed: only real
tokens, one row after the other, so that projections, LayerNorm and activations never see padding, and rows of any
length can be joined. Only attention runs on padded rows, in groups of similar length. Temporary results are changed in
place, because allocating memory costs more than the activation function.
Shapes: B batch, S tokens of the longest row, T tokens of all rows together, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mebert.inference.attention_plan import AttentionGroup, AttentionPlan, attend

__all__ = ["FusedLayer", "LayerParts", "drop_layers", "fused_layers"]


@dataclass
class LayerParts:
    """The parts of a layer, whatever its family calls them.

    Attributes:
        query: Projection of the query.
        key: Projection of the key.
        value: Projection of the value.
        out: Projection after attention.
        attention_norm: LayerNorm after attention.
        up: First projection of the feed-forward part.
        activation: Its activation function.
        down: Its second projection.
        output_norm: LayerNorm at the end.
        heads: Attention heads.
    """

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    activation: Callable[[Tensor], Tensor]
    down: nn.Linear
    output_norm: nn.LayerNorm
    heads: int


def _bert_parts(layer: Any) -> LayerParts:
    attention, out = layer.attention.self, layer.attention.output
    return LayerParts(
        *(attention.query, attention.key, attention.value, out.dense, out.LayerNorm),
        *(layer.intermediate.dense, layer.intermediate.intermediate_act_fn, layer.output.dense, layer.output.LayerNorm),
        heads=attention.num_attention_heads,
    )


def _albert_parts(layer: Any) -> LayerParts:
    attention = layer.attention
    return LayerParts(
        *(attention.query, attention.key, attention.value, attention.dense, attention.LayerNorm),
        *(layer.ffn, layer.activation, layer.ffn_output, layer.full_layer_layer_norm),
        heads=attention.num_attention_heads,
    )


def _distilbert_parts(layer: Any) -> LayerParts:
    attention = layer.attention
    return LayerParts(
        *(attention.q_lin, attention.k_lin, attention.v_lin, attention.out_lin, layer.sa_layer_norm),
        *(layer.ffn.lin1, layer.ffn.activation, layer.ffn.lin2, layer.output_layer_norm),
        heads=attention.n_heads,
    )


class FusedLayer(nn.Module):
    """One layer in evaluation mode, with its own copy of the projections of query, key and value.

    Args:
        parts: The layer's parts, shared but for the three projections.
    """

    def __init__(self, parts: LayerParts) -> None:
        super().__init__()
        linears = (parts.query, parts.key, parts.value)
        self.qkv = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears))
        self.qkv.to(linears[0].weight.device, linears[0].weight.dtype)
        with torch.no_grad():
            self.qkv.weight.copy_(torch.cat([linear.weight for linear in linears]))
            self.qkv.bias.copy_(torch.cat([linear.bias for linear in linears]))
        self.out = parts.out
        self.attention_norm = parts.attention_norm
        self.up = parts.up
        self.down = parts.down
        self.output_norm = parts.output_norm
        self.heads = parts.heads
        activation: Any = parts.activation
        self.is_gelu = activation is F.gelu or getattr(activation, "act", None) is F.gelu
        self.activation = activation

    def forward(self, hidden: Tensor, plan: AttentionPlan) -> Tensor:
        """Packed hidden states (T, H) to those after the layer, (T, H).

        Args:
            hidden: Packed hidden states.
            plan: Which rows attend together.
        """
        context = plan.run(self.qkv(hidden), self._attend)
        hidden = self.attention_norm(self.out(context).add_(hidden))
        inner = self.up(hidden)
        inner = torch.ops.aten.gelu_(inner) if self.is_gelu else self.activation(inner)
        result: Tensor = self.output_norm(self.down(inner).add_(hidden))
        return result

    def _attend(self, qkv: Tensor, group: AttentionGroup) -> Tensor:
        """Padded queries, keys and values of a group (n W, 3 H) to attention outputs, (n W, H)."""
        query, key, value = qkv.view(group.rows, group.tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        context = attend(query, key, value, group.mask)
        return context.transpose(1, 2).reshape(group.rows * group.tokens, -1)


def fused_layers(encoder: Any) -> list[list[FusedLayer]] | None:
    """The encoder's layers, fused; a list each, because a layer of ALBERT may consist of several.

    Layers that share their weights (ALBERT's) share their fused form.

    Args:
        encoder: A Hugging Face base model.

    Returns:
        One list a layer, or None for a family (or a kind of layer) whose parts are not known.
    """
    config = encoder.config
    if getattr(config, "is_decoder", False):
        return None
    if config.model_type == "albert":
        groups = [[FusedLayer(_albert_parts(x)) for x in g.albert_layers] for g in encoder.encoder.albert_layer_groups]
        share = config.num_hidden_layers / config.num_hidden_groups
        return [groups[int(index / share)] for index in range(config.num_hidden_layers)]
    if config.model_type == "distilbert":
        return [[FusedLayer(_distilbert_parts(layer))] for layer in encoder.transformer.layer]
    if config.model_type in ("bert", "roberta", "xlm-roberta", "electra"):
        return [[FusedLayer(_bert_parts(layer))] for layer in encoder.encoder.layer]
    return None


def drop_layers(encoder: Any) -> None:
    """Remove the encoder's own layers once they are fused, so that no weight is kept twice."""
    if encoder.config.model_type == "albert":
        encoder.encoder.albert_layer_groups = nn.ModuleList()
    elif encoder.config.model_type == "distilbert":
        encoder.transformer.layer = nn.ModuleList()
    else:
        encoder.encoder.layer = nn.ModuleList()
