"""What a model folder holds for an `EarlyExitClassifier`: the arguments of its class, and the export beside it."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import torch

from mebert.data.tokenizers import load_tokenizer
from mebert.exit_predictor import load_predictors
from mebert.models import MultiExitModel
from mebert.onnx.backend import OnnxBackend, is_exported
from mebert.onnx.up_to_date import export_command, what_changed
from mebert.policies.stored_thresholds import load_policy
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import export_folder


def saved_parts(folder: str) -> dict[str, Any]:
    """The arguments of `EarlyExitClassifier` that a model folder or Hub id holds, by name.

    Raises:
        UserError: It has no exits or no tokenizer.
    """
    spec = ModelSpec.read(folder)
    model = MultiExitModel.from_pretrained(folder)
    tokenizer, policy = load_tokenizer(folder), load_policy(folder, model)
    chosen_by = spec.chosen_by
    if policy is not None and spec.mebert_version is None:
        chosen_by = "mebert 0.1.0, which stored no validation pass with a model"
        warnings.warn(f"operating point of {folder}: {policy.name} keeps its threshold, by {chosen_by}", stacklevel=3)
    return {
        "model": model,
        "tokenizer": tokenizer,
        "policy": policy,
        "operating_points": spec.operating_points,
        "predictors": load_predictors(folder),
        "max_drops": spec.thresholds_for_max_drop(),
        "max_length": spec.max_length,
        "num_texts": spec.num_texts,
        "chosen_by": chosen_by,
        "expected": spec.expected,
        "stride": spec.stride,
    }


def export_beside(folder: str) -> OnnxBackend | None:
    """The export beside a model folder (`<run>/exported`); None: there is none, or of another state of the model."""
    export = export_folder(folder)
    if export is None or not is_exported(export) or find_spec("onnxruntime") is None:
        return None
    if changed := what_changed(export, folder):
        again = f"write it again: {export_command(export, folder)}"
        warnings.warn(
            f"backend auto takes PyTorch: {export} has {changed} than the model has now; {again}", stacklevel=3
        )
        return None
    return OnnxBackend(export, torch.get_num_threads())
