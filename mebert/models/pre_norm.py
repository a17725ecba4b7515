"""Families with rotary positions whose layers normalise their input: ModernBERT and EuroBERT.

What such layers hand on is never normalised: exits read it through the encoder's final norm, as Hugging Face's own
classifiers read the last layer. Shapes: B batch, S tokens, H hidden, D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from mebert.models.encoder import EncoderAdapter
from mebert.models.layer_state import LayerMask

LENGTH_BOUND = ("dynamic", "longrope")
"""Kinds of rotary positions that depend on the longest text of a batch."""

PUBLISHED_CODE = "modeling_eurobert.EuroBertModel"


class EuroBertAdapter(EncoderAdapter):
    """EuroBERT: rotary positions, RMSNorm before each part of a layer, gated feed-forward, grouped keys and values."""

    families = ("eurobert",)
    init_kwargs: ClassVar[dict[str, Any]] = {}
    dropout_keys: ClassVar[tuple[str, ...]] = ("attention_dropout",)
    counts = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    layers_at = "layers"
    parts = None  # of a shape of their own
    norm_at = "norm"

    @classmethod
    @override
    def refused_options(cls, config: Any) -> Iterator[tuple[str, str]]:
        """As the base; and heads that rotary positions cannot turn, or that depend on the other texts of a batch.

        EuroBERT was published with code that transformers has taken over since: it is not run, and no reason to refuse.
        """
        published = str((getattr(config, "auto_map", None) or {}).get("AutoModel")).endswith(PUBLISHED_CODE)
        for option, advice in super().refused_options(config):
            if option != "auto_map" or not published:
                yield option, advice
        heads = max(config.num_attention_heads, 1)
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        if width % 2:
            option = "head_dim" if hasattr(config, "head_dim") else "num_attention_heads"
            yield option, f"and rotary positions need heads of an even width, not {width}"
        if heads % max(getattr(config, "num_key_value_heads", heads), 1):
            yield "num_key_value_heads", f"and must divide num_attention_heads, {heads}"
        kinds = config.rope_parameters or {}
        for kind in (kinds, *(value for value in kinds.values() if isinstance(value, dict))):
            if kind.get("rope_type") in LENGTH_BOUND:
                yield "rope_parameters", "and a text's positions must not depend on its batch: take another rope_type"

    @override
    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        module: Any = self.encoder
        hidden: Tensor = module.embed_tokens(input_ids)
        return hidden

    @override
    def layer(self, index: int, hidden: Tensor, mask: LayerMask) -> Tensor:
        module: Any = self.encoder
        out: Tensor = module.layers[index](hidden, mask, position_embeddings=self.rotary(index, hidden))
        return out

    def rotary(self, index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (1, S, D) of a layer's rotary positions, in the precision of hidden states (B, S, H)."""
        module: Any = self.encoder
        cosines, sines = module.rotary_emb(hidden, torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0))
        return cosines, sines

    @override
    def final_norm(self, hidden: Tensor) -> Tensor:
        normed: Tensor = getattr(self.encoder, self.norm_at)(hidden)
        return normed

    @override
    def layer_flops(self, tokens: Tensor) -> Tensor:
        """The base's with three projections of feed-forward, and as wide as the heads are."""
        h, i, config = self.hidden_size, self.intermediate_size, self.config
        width = getattr(config, "head_dim", None) or h // config.num_attention_heads
        query = config.num_attention_heads * width
        groups = getattr(config, "num_key_value_heads", config.num_attention_heads) * width
        projections = h * (2 * query + 2 * groups + 3 * i)
        return 2 * (tokens * projections + 2 * tokens**2 * query)


class ModernBertAdapter(EuroBertAdapter):
    """ModernBERT: as EuroBERT with LayerNorm; most layers attend within a window, every third to the whole text."""

    families = ("modernbert",)
    dropout_keys = ("embedding_dropout", "attention_dropout", "mlp_dropout")
    counts = ("num_hidden_layers", "num_attention_heads", "local_attention")
    norm_at = "final_norm"

    @classmethod
    @override
    def keep_first_layers(cls, config: Any, layers: int) -> None:
        super().keep_first_layers(config, layers)
        config.layer_types = config.layer_types[:layers]

    @override
    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        module: Any = self.encoder
        hidden: Tensor = module.embeddings(input_ids=input_ids)
        return hidden

    @override
    def layer_mask(self, hidden: Tensor, attention_mask: Tensor) -> dict[str, Tensor | None]:
        from transformers.masking_utils import create_bidirectional_sliding_window_mask  # with the model, as the base

        given = {"config": self.config, "inputs_embeds": hidden, "attention_mask": attention_mask}
        return {
            "full_attention": super().layer_mask(hidden, attention_mask),
            "sliding_attention": create_bidirectional_sliding_window_mask(**given),
        }

    @override
    def layer(self, index: int, hidden: Tensor, mask: LayerMask) -> Tensor:
        assert isinstance(mask, dict)
        return super().layer(index, hidden, mask[self.config.layer_types[index]])

    @override
    def rotary(self, index: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        module: Any = self.encoder
        places = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
        cosines, sines = module.rotary_emb(hidden, places, self.config.layer_types[index])
        return cosines, sines
