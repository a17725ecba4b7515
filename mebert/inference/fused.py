"""Transformer layers for inference: one projection for query, key and value, and no operation on padding.

A layer takes its weights from the Hugging Face layer, for all supported families. Hidden states are packed: only real
tokens, one row after the other, so that projections, LayerNorm and activations never see padding, and rows of any
length can be joined. Only attention runs on padded rows, in groups of similar length. Temporary results are changed in
place, because allocating memory costs more than the activation function.
Shapes: B batch, S tokens of the longest row, T tokens of all rows together, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mebert.inference.attention_plan import AttentionGroup, AttentionPlan, attend

# Where each family keeps query, key, value, the projection after attention and its LayerNorm, the first projection of
# the feed-forward part, its activation function, its second projection, the last LayerNorm, and the number of heads.
BERT_PARTS = (
    *("attention.self.query", "attention.self.key", "attention.self.value"),
    *("attention.output.dense", "attention.output.LayerNorm"),
    *("intermediate.dense", "intermediate.intermediate_act_fn", "output.dense", "output.LayerNorm"),
    "attention.self.num_attention_heads",
)
ALBERT_PARTS = (
    *("attention.query", "attention.key", "attention.value", "attention.dense", "attention.LayerNorm"),
    *("ffn", "activation", "ffn_output", "full_layer_layer_norm", "attention.num_attention_heads"),
)
DISTILBERT_PARTS = (
    *("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm"),
    *("ffn.lin1", "ffn.activation", "ffn.lin2", "output_layer_norm", "attention.n_heads"),
)


class FusedLayer(nn.Module):
    """One layer in evaluation mode, with its own copy of the projections of query, key and value; other parts shared.

    Args:
        layer: A Hugging Face layer.
        parts: The names of its parts, as `BERT_PARTS` has them.
    """

    def __init__(self, layer: Any, parts: Sequence[str]) -> None:
        super().__init__()
        found: Any = attrgetter(*parts)(layer)
        *linears, self.out, self.attention_norm, self.up, activation, self.down, self.output_norm, self.heads = found
        self.qkv = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears))
        self.qkv.to(linears[0].weight.device, linears[0].weight.dtype)
        with torch.no_grad():
            self.qkv.weight.copy_(torch.cat([linear.weight for linear in linears]))
            self.qkv.bias.copy_(torch.cat([linear.bias for linear in linears]))
        self.is_gelu = activation is F.gelu or getattr(activation, "act", None) is F.gelu
        self.activation = activation

    def forward(self, hidden: Tensor, plan: AttentionPlan) -> Tensor:
        """Packed hidden states (T, H) to those after the layer, (T, H)."""
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
    """The layers of a Hugging Face base model, fused; None for a family (or a kind of layer) whose parts are not known.

    A list each, because a layer of ALBERT may consist of several; layers that share their weights share the fused form.
    """
    config = encoder.config
    if config.model_type == "albert":
        groups = [
            [FusedLayer(layer, ALBERT_PARTS) for layer in group.albert_layers]
            for group in encoder.encoder.albert_layer_groups
        ]
        share = config.num_hidden_layers / config.num_hidden_groups
        return [groups[int(index / share)] for index in range(config.num_hidden_layers)]
    if config.model_type == "distilbert":
        return [[FusedLayer(layer, DISTILBERT_PARTS)] for layer in encoder.transformer.layer]
    if config.model_type in ("bert", "roberta", "xlm-roberta", "electra"):
        return [[FusedLayer(layer, BERT_PARTS)] for layer in encoder.encoder.layer]
    return None


def drop_layers(encoder: Any) -> None:
    """Remove the encoder's own layers once they are fused, so that no weight is kept twice."""
    if encoder.config.model_type == "albert":
        encoder.encoder.albert_layer_groups = nn.ModuleList()
    elif encoder.config.model_type == "distilbert":
        encoder.transformer.layer = nn.ModuleList()
    else:
        encoder.encoder.layer = nn.ModuleList()
