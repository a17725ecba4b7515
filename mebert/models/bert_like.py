"""Encoder families whose layers are BERT's, with other embeddings, names or sharing: their adapters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.models.encoder import EncoderAdapter, LayerParts


class RobertaAdapter(EncoderAdapter):
    """RoBERTa: positions start after the padding token's id."""

    families: ClassVar[tuple[str, ...]] = ("roberta", "xlm-roberta", "camembert")

    @classmethod
    def refused_options(cls, config: Any) -> Iterator[tuple[str, str]]:
        """As the base, and no padding token."""
        yield from super().refused_options(config)
        if config.pad_token_id is None:
            yield "pad_token_id", "and positions start after it: set it to the tokenizer's, usually 1"

    @classmethod
    def first_position(cls, config: Any) -> int:
        """The one after the padding token's id."""
        return int(config.pad_token_id or 0) + 1


class XlmRobertaXLAdapter(RobertaAdapter):
    """XLM-RoBERTa-XL: RoBERTa with each LayerNorm before its part and one more after the last layer (pre-norm)."""

    families = ("xlm-roberta-xl",)
    parts = LayerParts(attention_norm="attention.self_attn_layer_norm", output_norm="LayerNorm", norm_first=True)

    def final_norm(self, hidden: Tensor) -> Tensor:
        """Through the encoder's last LayerNorm, as Hugging Face's `last_hidden_state`."""
        module: Any = self.encoder
        out: Tensor = module.encoder.LayerNorm(hidden)
        return out


class AlbertAdapter(EncoderAdapter):
    """ALBERT: a projection after the embeddings, and layers shared within groups."""

    families = ("albert",)
    layers_at = "encoder.albert_layer_groups"
    parts = LayerParts(
        query="attention.query",
        key="attention.key",
        value="attention.value",
        out="attention.dense",
        attention_norm="attention.LayerNorm",
        up="ffn",
        activation="activation",
        down="ffn_output",
        output_norm="full_layer_layer_norm",
        heads="attention.num_attention_heads",
    )
    counts = (*EncoderAdapter.counts, "num_hidden_groups", "inner_group_num")

    @classmethod
    def keep_first_layers(cls, config: Any, layers: int) -> None:
        """As the base, where all layers share their weights: groups of them are laid out over all layers."""
        if config.num_hidden_groups > 1:
            raise UserError(
                f"encoder_layers is not for an ALBERT whose {config.num_hidden_layers} layers share weights in "
                f"{config.num_hidden_groups} groups, only for one group; leave it null"
            )
        super().keep_first_layers(config, layers)

    @property
    def layers_per_step(self) -> int:
        """The layers of a group."""
        return int(self.config.inner_group_num)

    def embedding_flops(self, tokens: Tensor) -> Tensor:
        """As the base; it projects even where the sizes are equal."""
        return 2 * tokens * int(self.config.embedding_size) * self.hidden_size

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        module: Any = self.encoder
        hidden: Tensor = module.encoder.embedding_hidden_mapping_in(super().embed(input_ids, token_type_ids))
        return hidden

    def layers_of(self, index: int) -> list[Any]:
        """The layers of the group that runs at this place."""
        module: Any = self.encoder
        group = int(index / (self.num_layers / self.config.num_hidden_groups))
        return list(module.encoder.albert_layer_groups[group].albert_layers)

    def layer(self, index: int, hidden: Tensor, mask: Tensor | None) -> Tensor:
        for module in self.layers_of(index):
            hidden = module(hidden, mask)
        return hidden


class ElectraAdapter(EncoderAdapter):
    """ELECTRA: small models project their embeddings to the hidden size."""

    families = ("electra",)
    init_kwargs: ClassVar[dict[str, Any]] = {}

    def embedding_flops(self, tokens: Tensor) -> Tensor:
        """As the base."""
        size, hidden = int(self.config.embedding_size), self.hidden_size
        return 2 * tokens * size * hidden if size != hidden else torch.zeros_like(tokens)

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        module: Any = self.encoder
        hidden = super().embed(input_ids, token_type_ids)
        return module.embeddings_project(hidden) if hasattr(module, "embeddings_project") else hidden


class DistilBertAdapter(EncoderAdapter):
    """DistilBERT: no token types, other names."""

    families = ("distilbert",)
    init_kwargs: ClassVar[dict[str, Any]] = {}
    dropout_keys = ("dropout", "attention_dropout")
    layers_at = "transformer.layer"
    parts = LayerParts(
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        out="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        activation="ffn.activation",
        down="ffn.lin2",
        output_norm="output_layer_norm",
        heads="attention.n_heads",
    )

    @property
    def intermediate_size(self) -> int:
        return int(self.config.hidden_dim)

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        module: Any = self.encoder
        hidden: Tensor = module.embeddings(input_ids)
        return hidden
