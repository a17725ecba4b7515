"""The model that is measured: a trained one, an encoder with fresh exits, or random weights of a named size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mebert.commands.bench.policies import fresh_policies, trained_policies
from mebert.errors import UserError
from mebert.models import CascadeModel, MultiExitModel, build_encoder
from mebert.models.families import quiet_loading
from mebert.models.heads import HeadKind, PoolingKind
from mebert.policies import ExitPolicy
from mebert.policies.stored_thresholds import load_policy
from mebert.storage.model_spec import saved_model_folder

__all__ = ["SIZES", "BenchModel", "open_subject"]

DEFAULT_SIZE = "minilm"
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128},
    "minilm": {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
    "bert-base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "bert-large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}


@dataclass
class BenchModel:
    """What is measured.

    Attributes:
        name: As a reader knows it.
        model: In float32, in evaluation mode.
        policies: Bound to the model; their thresholds do not matter.
        trained: Its exits were trained, so that policies decide; otherwise exits are simulated.
        tokenizer: Hub id or folder, or None where there is none.
    """

    name: str
    model: MultiExitModel
    policies: list[ExitPolicy] = field(default_factory=list)
    trained: bool = False
    tokenizer: str | None = None


def open_subject(
    model: str | None,
    size: str | None,
    encoder_config: dict[str, Any] | None,
    policies: Sequence[str] | None,
    num_labels: int,
    pooling: PoolingKind,
    head: HeadKind,
    seed: int,
) -> BenchModel:
    """The model that the arguments of `bench` describe.

    Raises:
        UserError: More than one of model, size and encoder_config; an unknown size or policy; or it cannot be had.
    """
    given = [name for name, value in (("model", model), ("size", size), ("encoder_config", encoder_config)) if value]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} were given; give one of model, size and encoder_config")
    torch.manual_seed(seed)
    if model is not None and (folder := saved_model_folder(model)) is not None:
        opened = MultiExitModel.from_pretrained(folder)
        if isinstance(opened, CascadeModel):
            raise UserError(
                f"{model} is a cascade of {opened.num_exits} models, and bench measures one: give one of them"
            )
        bound = trained_policies(policies, opened, load_policy(folder, opened))
        return BenchModel(model, opened, bound, trained=True, tokenizer=folder)
    if model is not None:
        name, encoder = model, build_encoder(model)
    else:
        config = encoder_config or _size(size or DEFAULT_SIZE)
        name = f"{size or DEFAULT_SIZE} size" if encoder_config is None else "encoder_config"
        with quiet_loading():
            encoder = build_encoder(name, config)
    fresh = MultiExitModel(encoder, num_labels, pooling=pooling, head=head).eval()
    return BenchModel(name, fresh, fresh_policies(policies, fresh), tokenizer=model)


def _size(name: str) -> dict[str, Any]:
    if name not in SIZES:
        raise UserError(f"size {name!r} is not known; choose one of {', '.join(SIZES)}, or give encoder_config")
    return {"model_type": "bert", **SIZES[name]}
