"""MPNet: BERT's layers, whose attention scores have a bias by relative position that all layers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from mebert.models.encoder import EncoderAdapter, LayerParts

BUCKETS = 32  # that transformers puts distances into, whatever the configuration says


class MPNetAdapter(EncoderAdapter):
    """MPNet: no token types, positions from 2 on, and a position bias that is computed once for all layers."""

    families = ("mpnet",)
    attention = ("eager",)
    position_offset: ClassVar[dict[str, int]] = {"mpnet": 2}
    parts = LayerParts(
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        out="attention.attn.o",
        attention_norm="attention.LayerNorm",
        heads="attention.attn.num_attention_heads",
    )

    @classmethod
    def refused_options(cls, config: Any) -> Iterator[tuple[str, str]]:
        """As the base, and fewer buckets of distances than are read."""
        yield from super().refused_options(config)
        if config.relative_attention_num_buckets < BUCKETS:
            yield "relative_attention_num_buckets", f"and transformers reads {BUCKETS}: take another encoder"

    def attention_bias(self, tokens: int) -> Tensor:
        """As the base, from the encoder's own embeddings of distances."""
        module: Any = self.encoder
        device = module.encoder.relative_attention_bias.weight.device
        bias: Tensor = module.encoder.compute_position_bias(torch.empty(1, tokens, device=device))
        return bias
