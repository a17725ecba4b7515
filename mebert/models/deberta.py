"""DeBERTa-v2 and v3: attention with scores of content against relative position, from one table for all layers.

Shapes: B batch, S tokens, H hidden, P rows of the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import transformers  # its classes by attribute: they are imported with the first model, not at start-up
from torch import Tensor
from typing_extensions import override

from mebert.models.encoder import EncoderAdapter
from mebert.models.layer_state import LayerState


class DebertaAdapter(EncoderAdapter):
    """DeBERTa-v2 (v3 is the same network): disentangled attention, and in large models a convolution after layer 1.

    Attention has a form of its own, so that `attn_implementation` has no effect. Without token types (v3 has none) the
    texts of a pair are told apart by the separator alone.
    """

    families = ("deberta-v2",)
    init_kwargs: ClassVar[dict[str, Any]] = {}
    attention = ("eager",)
    parts = None  # its attention is not BERT's
    counts = ("num_hidden_layers", "num_attention_heads")
    unlisted_options: ClassVar[dict[str, type]] = {
        **{"position_buckets": int, "norm_rel_ebd": str, "share_att_key": bool, "embedding_size": int},
        **{"conv_kernel_size": int, "conv_groups": int, "conv_act": str},
    }

    @classmethod
    @override
    def refused_options(cls, config: Any) -> Iterator[tuple[str, str]]:
        """As the base, and values of unlisted options with which Hugging Face's layers fail."""
        yield from super().refused_options(config)
        for name, kind in cls.unlisted_options.items():
            if not isinstance(getattr(config, name, kind()), kind):
                yield name, f"and must be of the type {kind.__name__}"
        if getattr(config, "position_buckets", -1) == 1:
            yield "position_buckets", "and must be at least 2, or -1 for a position of its own for each distance"
        kernel = getattr(config, "conv_kernel_size", 0)
        if kernel > 0 and kernel % 2 == 0:
            yield "conv_kernel_size", "and must be odd, or 0 for no convolution"
        if kernel > 0 and getattr(config, "conv_act", "tanh") not in transformers.activations.ACT2FN:
            yield "conv_act", "which transformers does not know: for example gelu or tanh"

    @override
    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        return super().embed(input_ids, token_type_ids if self.config.type_vocab_size > 0 else None)

    @override
    def start(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> LayerState:
        state = super().start(input_ids, attention_mask, token_type_ids)
        state.hidden = state.hidden * attention_mask.unsqueeze(-1).to(state.hidden.dtype)
        return state

    @override
    def layer_mask(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        module: Any = self.encoder
        mask: Tensor = module.encoder.get_attention_mask(attention_mask)
        return mask

    @override
    def layer(self, index: int, hidden: Tensor, mask: Any) -> Tensor:
        module: Any = self.encoder
        stack = module.encoder
        positions, table = stack.get_rel_pos(hidden), stack.get_rel_embedding()
        out: Tensor = stack.layer[index](hidden, mask, relative_pos=positions, rel_embeddings=table)[0]
        if index == 0 and stack.conv is not None:
            out = stack.conv(hidden, out, mask[:, 0].diagonal(dim1=1, dim2=2))
        return out

    @override
    def embedding_flops(self, tokens: Tensor) -> Tensor:
        size, hidden = int(getattr(self.config, "embedding_size", self.hidden_size)), self.hidden_size
        return 2 * tokens * size * hidden if size != hidden else torch.zeros_like(tokens)

    @override
    def layer_flops(self, tokens: Tensor) -> Tensor:
        """The base's with the scores against positions, 2 S P H each.

        The projections of the table, 2 P H^2 each, are the same for all texts and not counted: Hugging Face computes
        them once a batch, a prepared model once.
        """
        kinds = {"c2p", "p2c"} & {*(self.config.pos_att_type or [])}
        return super().layer_flops(tokens) + len(kinds) * 2 * tokens * self.table_rows * self.hidden_size

    @override
    def flops(self, lengths: Tensor, depth: int) -> Tensor:
        module: Any = self.encoder
        found = super().flops(lengths, depth)
        if depth and module.encoder.conv is not None:
            conv = module.encoder.conv.conv
            found += 2 * lengths.double() * self.hidden_size**2 * conv.kernel_size[0] / conv.groups
        return found

    @property
    def table_rows(self) -> int:
        """P, the relative positions that layers tell apart; 0 without relative attention."""
        module: Any = self.encoder
        return int(module.encoder.rel_embeddings.num_embeddings) if module.encoder.relative_attention else 0
