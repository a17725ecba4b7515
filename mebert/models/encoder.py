"""Walk a Hugging Face encoder layer by layer, one small adapter a family.

Shapes: B batch, S tokens, H hidden. The walk calls the library's own embedding, mask and layer code, so its
layer outputs equal `output_hidden_states` for the same weights; what it adds is that a caller may stop after
any layer and may drop samples from the batch on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import logging as hf_logging

from mebert.errors import UserError
from mebert.hub import hub_errors

if TYPE_CHECKING:
    from mebert.models.heads import ExitHead

__all__ = [
    "SUPPORTED_FAMILIES",
    "EncoderWalk",
    "LayerState",
    "build_encoder",
    "joined_memory",
    "quiet_loading",
    "walk_for",
]


@dataclass
class LayerState:
    """Where a batch stands inside the encoder.

    Attributes:
        hidden: Hidden states after `depth` layers, (B, S, H).
        attention_mask: The tokenizer's mask, (B, S), 1 for a token and 0 for padding.
        layer_mask: The mask in the form that the attention implementation wants, or None for "nothing is padded".
        depth: Number of layers that have run.
        memory: What a model's earlier exits have left for its later ones, (B, ...); None: nothing.
    """

    hidden: Tensor
    attention_mask: Tensor
    layer_mask: Tensor | None
    depth: int = 0
    memory: Tensor | None = None

    def keep(self, rows: Tensor) -> LayerState:
        """The same state for some rows of the batch only.

        Args:
            rows: Row numbers to keep, (B',) int64, on any device. The layer mask is filtered with them.
        """
        rows = rows.to(self.hidden.device)
        mask = None if self.layer_mask is None else self.layer_mask.index_select(0, rows)
        memory = None if self.memory is None else self.memory.index_select(0, rows)
        hidden, attention_mask = self.hidden.index_select(0, rows), self.attention_mask.index_select(0, rows)
        return LayerState(hidden, attention_mask, mask, self.depth, memory)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Hidden states (B, S, H) and mask (B, S), as exit heads read them."""
        return self.hidden, self.attention_mask


def joined_memory(states: Sequence[LayerState]) -> Tensor | None:
    """The memories of several states of one depth as one."""
    memories = [state.memory for state in states if state.memory is not None]
    return torch.cat(memories) if memories else None


class EncoderWalk:
    """The walk through a BERT-shaped encoder (`embeddings`, `encoder.layer`); other families override parts of it.

    Args:
        encoder: The Hugging Face base model (no task head). It stays the owner of the weights.
    """

    families: ClassVar[tuple[str, ...]] = ("bert", "roberta", "xlm-roberta")
    init_kwargs: ClassVar[dict[str, Any]] = {"add_pooling_layer": False}  # an unused pooler would break DDP
    dropout_keys: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    position_offset: ClassVar[dict[str, int]] = {"roberta": 2, "xlm-roberta": 2}  # positions start after padding_idx

    def __init__(self, encoder: PreTrainedModel) -> None:
        self.encoder = encoder
        self.config: Any = encoder.config

    @classmethod
    def keep_first_layers(cls, config: Any, layers: int) -> None:
        """Change a configuration, before the encoder is made, so that it has only its first layers.

        The weights of the other layers are then left where they are: nothing of them is loaded or saved.

        Args:
            config: The Hugging Face configuration.
            layers: How many, 1..L.

        Raises:
            UserError: The encoder has no such number of layers.
        """
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
    def embedding_size(self) -> int:
        """Width of the embeddings before a projection to `hidden_size`; equal to it where there is none."""
        return int(getattr(self.config, "embedding_size", self.hidden_size))

    @property
    def max_length(self) -> int:
        """Longest input in tokens that the position embeddings allow."""
        offset = self.position_offset.get(self.config.model_type, 0)
        return int(self.config.max_position_embeddings) - offset

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Token ids (B, S) to the input of the first layer (B, S, H)."""
        module: Any = self.encoder
        hidden: Tensor = module.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        return hidden

    def layer(self, index: int, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Run the layer with this 0-based index on (B, S, H)."""
        module: Any = self.encoder
        out: Tensor = module.encoder.layer[index](hidden, attention_mask=mask)
        return out

    def start(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> LayerState:
        """Embed a batch and build its layer mask once."""
        hidden = self.embed(input_ids, token_type_ids)
        return LayerState(hidden, attention_mask, self.layer_mask(hidden, attention_mask))

    def layer_mask(self, hidden: Tensor, attention_mask: Tensor) -> Tensor | None:
        """What the layers read as a mask, from hidden states (B, S, H) and the tokenizer's mask (B, S)."""
        mask: Tensor | None = create_bidirectional_mask(
            config=self.config, inputs_embeds=hidden, attention_mask=attention_mask
        )
        return mask

    def pool(self, state: LayerState, head: ExitHead) -> Tensor:
        """What an exit reads of the hidden states, (B, H) (or as wide as the head's pooling makes it)."""
        return head.pool(*state.padded())

    def join(self, states: Sequence[LayerState]) -> LayerState:
        """The rows of several states of one depth as one state, padded to the longest.

        Args:
            states: At least one.
        """
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

    def flops(self, lengths: Tensor, depth: int) -> Tensor:
        """Counted cost of the embeddings' projection and the first `depth` layers, (N,) float64.

        2 x multiply-adds; one layer: 2 (4 S H^2 + 2 S^2 H + 2 S H I).

        Args:
            lengths: Tokens of each sample, (N,), special tokens included.
            depth: Number of layers.
        """
        s = lengths.double()
        h, i, e = self.hidden_size, self.intermediate_size, self.embedding_size
        projects = e != h or self.config.model_type == "albert"  # ALBERT projects even when the sizes are equal
        embedding = 2 * s * e * h if projects else torch.zeros_like(s)
        return embedding + depth * 2 * (4 * s * h**2 + 2 * s**2 * h + 2 * s * h * i)


class AlbertWalk(EncoderWalk):
    """ALBERT: a projection after the embeddings, and layers shared within groups."""

    families = ("albert",)

    @classmethod
    def keep_first_layers(cls, config: Any, layers: int) -> None:
        """As the base, where all layers share their weights: groups of them are laid out over all layers."""
        if config.num_hidden_groups > 1:
            raise UserError(
                f"encoder_layers is not for an ALBERT whose {config.num_hidden_layers} layers share weights in "
                f"{config.num_hidden_groups} groups, only for one group; leave it null"
            )
        super().keep_first_layers(config, layers)

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        module: Any = self.encoder
        hidden: Tensor = module.encoder.embedding_hidden_mapping_in(super().embed(input_ids, token_type_ids))
        return hidden

    def layer(self, index: int, hidden: Tensor, mask: Tensor | None) -> Tensor:
        module: Any = self.encoder
        group = int(index / (self.num_layers / self.config.num_hidden_groups))
        out: Tensor = module.encoder.albert_layer_groups[group](hidden, mask)
        return out


class ElectraWalk(EncoderWalk):
    """ELECTRA: small models project their embeddings to the hidden size."""

    families = ("electra",)
    init_kwargs: ClassVar[dict[str, Any]] = {}

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        module: Any = self.encoder
        hidden = super().embed(input_ids, token_type_ids)
        return module.embeddings_project(hidden) if hasattr(module, "embeddings_project") else hidden


class DistilBertWalk(EncoderWalk):
    """DistilBERT: no token types, other names."""

    families = ("distilbert",)
    init_kwargs: ClassVar[dict[str, Any]] = {}
    dropout_keys = ("dropout", "attention_dropout")

    @property
    def intermediate_size(self) -> int:
        return int(self.config.hidden_dim)

    def embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        module: Any = self.encoder
        hidden: Tensor = module.embeddings(input_ids)
        return hidden

    def layer(self, index: int, hidden: Tensor, mask: Tensor | None) -> Tensor:
        module: Any = self.encoder
        out: Tensor = module.transformer.layer[index](hidden, mask)
        return out


WALKS: tuple[type[EncoderWalk], ...] = (EncoderWalk, AlbertWalk, ElectraWalk, DistilBertWalk)
SUPPORTED_FAMILIES: tuple[str, ...] = tuple(family for walk in WALKS for family in walk.families)


def _walk_class(config: PreTrainedConfig, name: str) -> type[EncoderWalk]:
    for walk in WALKS:
        if config.model_type in walk.families:
            return walk
    raise UserError(
        f"encoder {name!r} is of the family {config.model_type!r}, which mebert cannot walk layer by layer; "
        f"use one of: {', '.join(SUPPORTED_FAMILIES)} (MiniLM models are of the family bert)"
    )


def walk_for(encoder: PreTrainedModel) -> EncoderWalk:
    """The adapter for an encoder.

    Raises:
        UserError: The encoder's family is not supported; the text lists those that are.
    """
    return _walk_class(encoder.config, encoder.config.name_or_path or type(encoder).__name__)(encoder)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide the report of weights that a base model leaves behind (its pooler, its language-model head)."""
    before = hf_logging.get_verbosity()
    bar = hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)
        if bar:
            hf_logging.enable_progress_bar()


def build_encoder(
    name: str,
    encoder_config: dict[str, Any] | None = None,
    dropout: float | None = None,
    attn_implementation: str = "sdpa",
    layers: int | None = None,
) -> PreTrainedModel:
    """An encoder with pretrained weights, or from scratch, in float32 and in training mode.

    `from_pretrained` returns evaluation mode and Lightning keeps it, so that BERT would be fine-tuned without
    dropout; therefore `.train()` here.

    Args:
        name: Hub id or folder of the weights; not used if `encoder_config` is given.
        encoder_config: Arguments of the Hugging Face configuration, with `model_type`: builds random weights.
        dropout: Replaces the configuration's dropout rates, 0..1; None keeps them.
        attn_implementation: `sdpa` or `eager`.
        layers: Keep only that many layers, the first ones, 1..L; None keeps all.

    Raises:
        UserError: Unknown id, no network, a family that is not supported, or a bad configuration.
    """
    if encoder_config is not None:
        settings = dict(encoder_config)
        if "model_type" not in settings:
            raise UserError("encoder_config needs the key model_type, for example {model_type: bert, hidden_size: 128}")
        model_type = str(settings.pop("model_type"))
        if model_type not in SUPPORTED_FAMILIES:
            raise UserError(
                f"encoder_config: model_type {model_type!r} is not supported; use one of: "
                f"{', '.join(SUPPORTED_FAMILIES)}"
            )
        try:
            config = AutoConfig.for_model(model_type, **settings)
        except Exception as error:  # the configuration classes validate strictly, with an exception type of their own
            raise UserError(f"encoder_config: {error}") from error
    else:
        with hub_errors(f"encoder {name!r}"):
            config = AutoConfig.from_pretrained(name)
    walk = _walk_class(config, name)
    if layers is not None:
        walk.keep_first_layers(config, layers)
    if dropout is not None:
        if not 0 <= dropout < 1:
            raise UserError(f"dropout must be in [0, 1), got {dropout}")
        for key in walk.dropout_keys:
            setattr(config, key, dropout)
    with quiet_loading():
        if encoder_config is not None:
            model = AutoModel.from_config(config, attn_implementation=attn_implementation, **walk.init_kwargs)
        else:
            with hub_errors(f"encoder {name!r}"):
                model = AutoModel.from_pretrained(
                    name,
                    config=config,
                    dtype=torch.float32,  # the default is the checkpoint's own, which may be half precision
                    attn_implementation=attn_implementation,
                    **walk.init_kwargs,
                )
    encoder: PreTrainedModel = model.train()
    return encoder
