"""Run a Hugging Face encoder layer by layer, one small adapter a family.

Shapes: B batch, S tokens, H hidden. An adapter calls the library's own embedding, mask and layer code, so its
layer outputs equal `output_hidden_states`; a caller may stop after any layer and may drop samples on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mebert.errors import UserError
from mebert.models.layer_state import LayerMask, LayerState, joined_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mebert.models.heads import ExitHead

REFUSED: dict[str, tuple[Any, str]] = {
    "is_decoder": (False, "and decoders are not supported: set it to false if the weights are an encoder's"),
    "add_cross_attention": (False, "and decoders are not supported: set it to false if the weights are an encoder's"),
    "chunk_size_feed_forward": (0, "and chunks are not supported: set it to 0, which gives the same results"),
    "position_embedding_type": (
        "absolute",
        "and only absolute positions are supported: take another encoder",
    ),
    "pruned_heads": ({}, "and transformers 5 has no pruned heads: take another encoder"),
    "per_layer_config": ({}, "and all layers must have the same configuration: take another encoder"),
}
"""Options of `config.json` by name: the value that is supported (beside null), and what to do about another one."""


@dataclass(frozen=True)
class LayerParts:
    """Where a Hugging Face layer of BERT's shape keeps its parts, by their names in it: from these it is fused.

    Attributes:
        query: The projections before attention, with a bias each; so `key` and `value`.
        out: The projection after attention.
        attention_norm: The LayerNorm around attention; so `output_norm` around the feed-forward part.
        up: The first projection of the feed-forward part.
        activation: Its activation function.
        down: Its second projection.
        heads: The number of attention heads.
        norm_first: Each LayerNorm stands before its part, on what the part reads, not after it on the sum.
    """

    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    activation: str = "intermediate.intermediate_act_fn"
    down: str = "output.dense"
    output_norm: str = "output.LayerNorm"
    heads: str = "attention.self.num_attention_heads"
    norm_first: bool = False


class EncoderAdapter:
    """Runs a BERT-shaped encoder (`embeddings`, `encoder.layer`) layer by layer; other families override parts of it.

    A class that overrides `layer` says `parts` anew, or its layers are not fused for inference.

    Args:
        encoder: The Hugging Face base model (no task head). It stays the owner of the weights.
    """

    families: ClassVar[tuple[str, ...]] = ("bert", "ernie")
    init_kwargs: ClassVar[dict[str, Any]] = {"add_pooling_layer": False}  # an unused pooler would break DDP
    dropout_keys: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    unlisted_options: ClassVar[dict[str, type]] = {}  # that Hugging Face reads although its configuration lacks them
    position_offset: ClassVar[dict[str, int]] = {}  # family to the first position, where it is not 0
    attention: ClassVar[tuple[str, ...]] = ("sdpa", "eager")  # transformers' implementations for the family
    layers_at: ClassVar[str] = "encoder.layer"  # the layers inside the encoder
    parts: ClassVar[LayerParts | None] = LayerParts()  # None: inference runs Hugging Face's own layers
    counts: ClassVar[tuple[str, ...]] = ("num_hidden_layers", "num_attention_heads", "type_vocab_size")  # 1 at least

    def __init__(self, encoder: PreTrainedModel) -> None:
        self.encoder = encoder
        self.config: Any = encoder.config

    @classmethod
    def refused_options(cls, config: Any) -> Iterator[tuple[str, str]]:
        """Options of a configuration with which layers would not give Hugging Face's hidden states, and what to do."""
        values = config.to_dict()
        for name, (usual, advice) in REFUSED.items():
            if values.get(name) not in (None, usual):
                yield name, advice
        if "AutoModel" in (values.get("auto_map") or {}):
            yield "auto_map", "and mebert runs no code of a model: take one that transformers knows"
        for name in cls.counts:
            if getattr(config, name, 1) < 1:
                yield name, "and must be at least 1"
        if config.num_attention_heads > 0 and config.hidden_size % config.num_attention_heads:
            yield "num_attention_heads", f"and must divide hidden_size, {config.hidden_size}"

    @classmethod
    def keep_first_layers(cls, config: Any, layers: int) -> None:
        """Change a configuration, before the encoder is made: only its first layers (1..L) are loaded and saved."""
        if not 1 <= layers <= config.num_hidden_layers:
            raise UserError(
                f"encoder_layers must be from 1 to {config.num_hidden_layers}, the layers of this encoder; got {layers}"
            )
        config.num_hidden_layers = layers

    @property
    def num_layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    @property
    def intermediate_size(self) -> int:
        return int(self.config.intermediate_size)

    @property
    def layers_per_step(self) -> int:
        """What counts as one layer: more than 1 only in an ALBERT with `inner_group_num`."""
        return 1

    def embedding_flops(self, tokens: Tensor) -> Tensor:
        """Counted cost of a projection of the embeddings to `hidden_size`, for inputs of `tokens` tokens."""
        return torch.zeros_like(tokens)

    @property
    def max_length(self) -> int:
        """Longest input in tokens that the position embeddings allow."""
        return int(self.config.max_position_embeddings) - self.first_position(self.config)

    @classmethod
    def first_position(cls, config: Any) -> int:
        """The position of a text's first token: those before it hold none."""
        return cls.position_offset.get(config.model_type, 0)

    @property
    def layer_parts(self) -> LayerParts | None:
        """`parts`, where the class that says them is, or inherits, the one that says how a layer is run; else None."""
        named, run = (next(cls for cls in type(self).__mro__ if name in vars(cls)) for name in ("parts", "layer"))
        return self.parts if issubclass(named, run) else None

    def layers_of(self, index: int) -> list[Any]:
        """Hugging Face's layers that make up the layer with this 0-based index: one, but for ALBERT's groups."""
        return [attrgetter(self.layers_at)(self.encoder)[index]]

    def drop_layers(self) -> None:
        """Remove the encoder's own layers once they are fused, so that no weight is kept twice."""
        self.encoder.set_submodule(self.layers_at, nn.ModuleList())

    def attention_bias(self, tokens: int) -> Tensor | None:
        """What all layers add to their attention scores, by position: (1, heads, S, S) for S `tokens`. None: nothing.

        It depends on the distance alone, so that the one of a shorter text is a part of it. A family that has one runs
        with attention `eager`.
        """
        return None

    def final_norm(self, hidden: Tensor) -> Tensor:
        """What exits read of hidden states (..., H): the same, or through the encoder's last norm where it has one."""
        return hidden

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Token ids (B, S) to the input of the first layer (B, S, H)."""
        kinds = getattr(self.config, "type_vocab_size", 2)
        if kinds < 2 and token_type_ids is not None and bool(token_type_ids.any()):
            raise UserError(
                f"the encoder cannot tell the texts of a pair apart (type_vocab_size {kinds}): give one text with both "
                "in it, or take another encoder"
            )
        module: Any = self.encoder
        hidden: Tensor = module.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        return hidden

    def layer(self, index: int, hidden: Tensor, mask: Any) -> Tensor:
        """Run the layer with this 0-based index on (B, S, H)."""
        (module,) = self.layers_of(index)
        out: Any = module(hidden, attention_mask=mask)
        return out[0] if isinstance(out, tuple) else out

    def start(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> LayerState:
        """Embed a batch and build its layer mask once."""
        hidden = self.embed(input_ids, token_type_ids)
        return LayerState(hidden, attention_mask, self.layer_mask(hidden, attention_mask))

    def layer_mask(self, hidden: Tensor, attention_mask: Tensor) -> LayerMask:
        """What the layers read as a mask, from hidden states (B, S, H) and the tokenizer's mask (B, S)."""
        from transformers.masking_utils import create_bidirectional_mask  # with the model, not at start-up

        mask: Tensor | None = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden, attention_mask=attention_mask
        )
        bias = self.attention_bias(hidden.shape[1])
        if bias is None:
            return mask
        bias = bias.expand(len(hidden), -1, -1, -1)
        return bias if mask is None else bias + mask

    def pool(self, state: LayerState, head: ExitHead) -> Tensor:
        """What an exit reads of the hidden states, (B, H) (or as wide as the head's pooling makes it)."""
        hidden, mask = state.padded()
        with torch.set_grad_enabled(hidden.requires_grad and torch.is_grad_enabled()):  # frozen as the layers are
            hidden = self.final_norm(hidden)
        return head.pool(hidden, mask)

    def join(self, states: Sequence[LayerState]) -> LayerState:
        """The rows of several states (at least one) of one depth as one state, padded to the longest."""
        if len(states) == 1:
            return states[0]
        width = max(state.attention_mask.shape[1] for state in states)
        short = [width - state.attention_mask.shape[1] for state in states]
        hidden = torch.cat([F.pad(s.hidden, (0, 0, 0, more)) for s, more in zip(states, short, strict=True)])
        mask = torch.cat([F.pad(s.attention_mask, (0, more)) for s, more in zip(states, short, strict=True)])
        return LayerState(hidden, mask, self.layer_mask(hidden, mask), states[0].depth, joined_memory(states))

    def advance(self, state: LayerState, depth: int) -> LayerState:
        """Run the layers between `state.depth` and `depth` (a number of layers, 1..L)."""
        hidden = state.hidden
        for index in range(state.depth, depth):
            hidden = self.layer(index, hidden, state.layer_mask)
        return replace(state, hidden=hidden, depth=depth)

    def layer_flops(self, tokens: Tensor) -> Tensor:
        """Counted cost of one layer for inputs of `tokens` tokens: 2 (4 S H^2 + 2 S^2 H + 2 S H I)."""
        h, i = self.hidden_size, self.intermediate_size
        return 2 * (4 * tokens * h**2 + 2 * tokens**2 * h + 2 * tokens * h * i)

    def flops(self, lengths: Tensor, depth: int) -> Tensor:
        """Counted cost of the embeddings' projection and the first `depth` layers, (N,) float64.

        2 x multiply-adds for samples of `lengths` (N,) tokens.
        """
        s = lengths.double()
        return self.embedding_flops(s) + depth * self.layers_per_step * self.layer_flops(s)


EncoderWalk = EncoderAdapter  # its name in mebert 0.1.0
