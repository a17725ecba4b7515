"""The model that is measured: a trained one, an encoder with new exits, or random weights of a named size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from mebert.commands.bench.accuracy import StoredPass
from mebert.commands.bench.command import BenchSettings
from mebert.commands.bench.policies import fresh_policies, trained_policies
from mebert.errors import UserError
from mebert.models import CascadeModel, MultiExitModel, build_encoder
from mebert.models.families import quiet_loading
from mebert.policies import ExitPolicy
from mebert.policies.stored_thresholds import load_policy, stored_point
from mebert.storage.model_spec import ModelSpec
from mebert.storage.operating_point import OperatingPoint
from mebert.storage.run_folder import find_model
from mebert.storage.stored_weights import trained_folder
from mebert.storage.thresholds import Threshold

DEFAULT_SIZE = "minilm"
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128},
    "minilm": {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
    "bert-base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "bert-large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}


@dataclass
class BenchModel:
    """A float32 model in evaluation mode, with policies bound to it.

    Where its exits are `trained`, policies decide; otherwise exits are simulated.
    """

    name: str
    model: MultiExitModel
    policies: list[ExitPolicy]
    trained: bool
    tokenizer: str | None
    point: OperatingPoint | None = None  # at which a saved model is used
    stored: dict[float, Threshold] = field(default_factory=dict)  # speed-up by layers to the threshold of that policy
    last_test: StoredPass | None = None


def open_bench_model(settings: BenchSettings) -> BenchModel:
    """The model that the settings describe; a UserError for more than one, or an unknown size or policy."""
    given = [name for name in ("model", "size", "encoder_config") if getattr(settings, name)]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} were given; give one of model, size and encoder_config")
    torch.manual_seed(settings.seed)
    name = settings.model
    if name is not None and (named := find_model(name)).model is not None:
        folder = trained_folder(named)
        opened = MultiExitModel.from_pretrained(folder)
        if isinstance(opened, CascadeModel):
            many = f"a cascade of {opened.num_exits} models"
            raise UserError(f"{name} is {many}, and bench measures one: give one of them")
        own, spec = load_policy(folder, opened), ModelSpec.read(folder)
        point = None if own is None else stored_point(own, spec.chosen_by, spec.expected)
        policies = trained_policies(settings.policies, opened, own)
        return BenchModel(
            name,
            opened,
            policies,
            trained=True,
            tokenizer=folder,
            point=point,
            stored={} if own is None else dict(spec.operating_points.get(own.name, {})),
            last_test=StoredPass.of_model(folder, opened),
        )
    if name is not None:
        encoder = build_encoder(name)
    else:
        size = settings.size or DEFAULT_SIZE
        if size not in SIZES:
            raise UserError(f"size {size!r} is not known; choose one of {', '.join(SIZES)}, or give encoder_config")
        config = settings.encoder_config or {"model_type": "bert", **SIZES[size]}
        name = f"{size} size" if settings.encoder_config is None else "encoder_config"
        with quiet_loading():
            encoder = build_encoder(name, config)
    fresh = MultiExitModel(encoder, settings.num_labels, pooling=settings.pooling, head=settings.head).eval()
    policies = fresh_policies(settings.policies, fresh)
    return BenchModel(name, fresh, policies, trained=False, tokenizer=settings.model)
