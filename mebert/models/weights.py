"""Whether the weights of a file are those of the model that Hugging Face has made of it: all of them, and numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from transformers.utils import cached_file

from mebert.errors import UserError
from mebert.runtime.messages import rank_zero_info
from mebert.storage.finite import check_finite, first_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where weights may be, in the order in which transformers looks for them."""

FLOATS = ("F64", "F32", "F16", "BF16", "torch.float64", "torch.float32", "torch.float16", "torch.bfloat16")
LAYER = re.compile(r"\blayers?\.(\d+)\.")
POOLER = re.compile(r"(?:^|\.)pooler\.(?:(?P<layer>\d+)\.)?(?:dense\.)?(?P<part>weight|bias)$")
"""What an encoder's pooler is called, or (ElasticBERT) those of its layers; exits may start from it."""
PRETRAINING = re.compile(
    r"(cls|lm_head|head|decoder|predictions|sop_classifier|vocab_\w+|generator_\w+|discriminator_\w+|"
    r"lm_predictions|mask_predictions)\."
)
"""Heads that encoders come with from their own training: nobody expects them in a classifier."""


def check_weights(
    what: str,
    name: str,
    model: PreTrainedModel,
    report: Mapping[str, Any],
    layers: int | None = None,
    own_head: bool = False,
) -> None:
    """Refuse weights that are not those of the configuration, and tell which weights of a file are not used.

    What is missing would be random, and what the model has no place for would not be computed, without a word.

    Args:
        what: The model, as messages begin.
        name: Hub id or folder of the weights.
        model: As `from_pretrained` has made it.
        report: The loading info of `from_pretrained`, called with `ignore_mismatched_sizes`.
        layers: The layers that were asked for, the first ones; those after them may be there. None: all.
        own_head: The file has the last exit of a mebert model, too (`mebert.models.hf_classifier`).

    Raises:
        UserError: Weights are missing, of another shape or unknown inside the encoder; or they are NaN, infinite or no
            floating-point numbers.
    """
    base: Any = model.base_model
    parts = {part for part, _ in base.named_children()}
    more = sorted(key for key in report["unexpected_keys"] if not key.endswith("_ids"))  # buffers of old versions
    unused = [key for key in more if not POOLER.search(key) and not (own_head and key.startswith("classifier."))]
    later = {key for key in unused if layers is not None and (n := LAYER.search(key)) and int(n[1]) >= layers}
    inside = [key for key in unused if key.removeprefix(f"{model.base_model_prefix}.").partition(".")[0] in parts]
    faults = {
        "missing": sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")),
        "of another size": sorted(key for key, _, _ in report["mismatched_keys"]),
        "unknown to transformers": [key for key in inside if key not in later],
    }
    for fault, names in faults.items():
        if names:
            sizes = [f" ({tuple(there)}, not {tuple(size)})" for _, there, size in sorted(report["mismatched_keys"])]
            detail = f"{first_names(names)} {fault}{sizes[0] if fault == 'of another size' else ''}"
            raise UserError(f"{what}: its weights do not fit its config.json: {detail}; fetch or save it anew")
    kinds = {key: kind for key, kind in _stored_types(name) if kind not in FLOATS}
    if integers := sorted(key for key in kinds if key not in more and not key.endswith("_ids")):
        raise UserError(
            f"{what}: {first_names(integers)} no floating-point numbers ({kinds[integers[0]]}), as of a quantised "
            "model; take the model's float weights"
        )
    check_finite(what, model.state_dict())
    heads = [key for key in unused if not PRETRAINING.match(key.removeprefix(f"{model.base_model_prefix}."))]
    if told := [key for key in heads if key not in later]:
        rank_zero_info(f"{what}: {first_names(told)} not used, being no part of the encoder")


def weight_files(name: str) -> list[str]:
    """The files of the weights of a folder or Hub id, as transformers finds them."""
    for file in FILES:
        found = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        if found is None:
            continue
        parts = [str(found)]
        if file.endswith(".json"):
            names = sorted(set(json.loads(Path(found).read_text(encoding="utf-8"))["weight_map"].values()))
            parts = [str(cached_file(name, part)) for part in names]
        return parts
    return []


def _stored_types(name: str) -> Iterator[tuple[str, str]]:
    """The weights of a folder or Hub id by their names in the file, each with its number format there."""
    for path in weight_files(name):
        if path.endswith(".safetensors"):
            with safe_open(path, framework="pt") as weights:
                yield from ((key, weights.get_slice(key).get_dtype()) for key in weights.keys())  # noqa: SIM118
        else:
            state = torch.load(path, map_location="meta", weights_only=True)
            yield from ((key, str(value.dtype)) for key, value in state.items())
