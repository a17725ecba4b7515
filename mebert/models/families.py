"""Encoder families, each with its adapter; and encoders made from a Hub id or from settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
import transformers  # its classes by attribute: they are imported with the first model, not at start-up
from transformers.utils import logging as hf_logging

from mebert.errors import UserError
from mebert.models.bert_like import (
    AlbertAdapter,
    DistilBertAdapter,
    ElectraAdapter,
    RobertaAdapter,
    XlmRobertaXLAdapter,
)
from mebert.models.deberta import DebertaAdapter
from mebert.models.encoder import EncoderAdapter
from mebert.models.mpnet import MPNetAdapter
from mebert.models.pre_norm import EuroBertAdapter, ModernBertAdapter
from mebert.models.weights import check_weights
from mebert.storage.encoder_file import check_encoder_file
from mebert.storage.hub import hub_errors
from mebert.storage.trusted_classes import subclasses_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

ADAPTERS: tuple[type[EncoderAdapter], ...] = (
    *(EncoderAdapter, RobertaAdapter, XlmRobertaXLAdapter),
    *(AlbertAdapter, ElectraAdapter, DistilBertAdapter),
    *(MPNetAdapter, DebertaAdapter, ModernBertAdapter, EuroBertAdapter),
)
SUPPORTED_FAMILIES: tuple[str, ...] = tuple(family for adapter in ADAPTERS for family in adapter.families)


def adapters_by_family() -> dict[str, type[EncoderAdapter]]:
    """Ours, and those of every subclass that names families of its own and whose module is imported."""
    ours = {family: adapter for adapter in ADAPTERS for family in adapter.families}
    # An adapter for another purpose inherits the families of its base.
    named = [adapter for adapter in subclasses_of(EncoderAdapter) if "families" in vars(adapter)]
    return ours | {family: adapter for adapter in named for family in adapter.families} | ours


def _adapter_class(config: PreTrainedConfig, what: str) -> type[EncoderAdapter]:
    found = adapters_by_family()
    if config.model_type not in found:
        raise UserError(
            f"{what} is of the family {config.model_type!r}, which mebert cannot walk layer by layer; "
            f"use one of: {', '.join(found)} (MiniLM models are of the family bert)"
        )
    adapter = found[config.model_type]
    for option, advice in adapter.refused_options(config):
        value = config.to_dict().get(option, getattr(config, option, None))
        raise UserError(f"{what}: {option} is {value!r}, {advice}")
    return adapter


def adapter_for(encoder: PreTrainedModel) -> EncoderAdapter:
    """The adapter for an encoder.

    Raises:
        UserError: The encoder's family is not supported; the text lists those that are.
    """
    name = encoder.config.name_or_path or type(encoder).__name__
    return _adapter_class(encoder.config, f"encoder {name!r}")(encoder)


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


def _refuse_unknown(model_type: str, settings: dict[str, Any]) -> None:
    """Hugging Face would keep a misspelt setting and do nothing with it."""
    usual = transformers.AutoConfig.for_model(model_type)
    more = adapters_by_family()[model_type].unlisted_options
    for name, value in settings.items():
        if not hasattr(usual, name) and name not in more:
            near = get_close_matches(name, [*usual.to_dict(), *more], n=1)
            advice = f"did you mean {near[0]}?" if near else "leave it out"
            raise UserError(f"encoder_config: {model_type} has no setting {name!r} (got {value!r}); {advice}")


def build_encoder(
    name: str,
    encoder_config: dict[str, Any] | None = None,
    dropout: float | None = None,
    attn_implementation: str = "sdpa",
    layers: int | None = None,
    own_head: bool = False,
) -> PreTrainedModel:
    """An encoder with pretrained weights, or from scratch, in float32 and in training mode.

    `from_pretrained` returns evaluation mode and Lightning keeps it, so that BERT would be fine-tuned without
    dropout; therefore `.train()` here.

    Args:
        name: Hub id or folder of the weights; not used if `encoder_config` is given.
        encoder_config: Arguments of the Hugging Face configuration, with `model_type`: builds random weights.
        dropout: Replaces the configuration's dropout rates, 0..1; None keeps them.
        attn_implementation: `sdpa` or `eager`; a family that transformers runs in one way only runs in that.
        layers: Keep only that many layers, the first ones, 1..L; None keeps all.
        own_head: The weights are those of a saved mebert model, whose last exit is in them, too, and is not told.

    Raises:
        UserError: Unknown id, no network, a family that is not supported, or a bad configuration.
    """
    if sys.flags.optimize > 1:
        raise UserError("python -OO removes the docstrings from which transformers builds models; take python -O")
    if encoder_config is not None:
        settings = dict(encoder_config)
        if "model_type" not in settings:
            raise UserError("encoder_config needs the key model_type, for example {model_type: bert, hidden_size: 128}")
        model_type = str(settings.pop("model_type"))
        families = adapters_by_family()
        if model_type not in families:
            raise UserError(
                f"encoder_config: model_type {model_type!r} is not supported; use one of: {', '.join(families)}"
            )
        _refuse_unknown(model_type, settings)
        try:
            config = transformers.AutoConfig.for_model(model_type, **settings)
        except Exception as error:  # the configuration classes validate strictly, with an exception type of their own
            raise UserError(f"encoder_config: {error}; correct it") from error
    else:
        with hub_errors(f"encoder {name!r}"):
            check_encoder_file(name)
            from mebert.storage.elasticbert import encoder_configuration  # with the first model, not at start-up

            config, renamed = encoder_configuration(name)
    adapter = _adapter_class(config, f"encoder {name!r}" if encoder_config is None else "encoder_config")
    if layers is not None:
        adapter.keep_first_layers(config, layers)
    if dropout is not None:
        if not 0 <= dropout < 1:
            raise UserError(f"dropout must be in [0, 1), got {dropout}")
        for key in adapter.dropout_keys:
            setattr(config, key, dropout)
    if attn_implementation not in adapter.attention:
        attn_implementation = adapter.attention[0]
    with quiet_loading():
        if encoder_config is not None:
            try:
                model = transformers.AutoModel.from_config(
                    config,
                    dtype=torch.float32,
                    attn_implementation=attn_implementation,
                    trust_remote_code=False,
                    **adapter.init_kwargs,
                )
            except (ValueError, RuntimeError, ArithmeticError, AssertionError, LookupError, TypeError) as error:
                raise UserError(f"encoder_config: {error}; correct one of these settings") from error
        else:
            with hub_errors(f"encoder {name!r}"):
                model, report = transformers.AutoModel.from_pretrained(
                    name,
                    config=config,
                    dtype=torch.float32,  # the default is the checkpoint's own, which may be half precision
                    attn_implementation=attn_implementation,
                    trust_remote_code=False,
                    ignore_mismatched_sizes=True,  # told below, in one line
                    output_loading_info=True,
                    key_mapping=renamed,
                    **adapter.init_kwargs,
                )
                check_weights(f"encoder {name!r}", name, model, report, layers, own_head)
    encoder: PreTrainedModel = model.train()
    return encoder
