"""The baselines: Hugging Face's own classifier, cast, quantised, or with its first layers only.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch
import transformers  # its classes by attribute: they are imported with the first model, not at start-up
from torch import Tensor, nn

from mebert.inference import Engine, Finished, PrecisionName
from mebert.models import MultiExitModel
from mebert.models.families import quiet_loading
from mebert.models.windows import flat_windows, mean_of_windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYER_COUNTS = ("num_hidden_layers", "n_layers")  # as the configurations call it


def hugging_face_model(
    model: MultiExitModel,
    device: torch.device,
    precision: PrecisionName = "float32",
    layers: int | None = None,
    compile: bool = False,
) -> PreTrainedModel:
    """`AutoModelForSequenceClassification` of the same encoder and weights, in evaluation mode.

    Its head is Hugging Face's own with random weights, because only its cost matters here. `layers`: only the first so
    many.
    """
    config = copy.deepcopy(model.encoder.config)
    config.num_labels = model.num_labels
    with quiet_loading():
        classifier = transformers.AutoModelForSequenceClassification.from_config(
            config, attn_implementation=model.encoder.config._attn_implementation, trust_remote_code=False
        )
    # Our encoder has no pooler, which some of Hugging Face's classifiers read; it stays random.
    missing, unexpected = classifier.base_model.load_state_dict(model.encoder.state_dict(), strict=False)
    assert not unexpected and all("pooler" in name for name in missing)  # noqa: PT018
    if layers is not None:
        for name in LAYER_COUNTS:
            if name in classifier.config.to_dict():
                setattr(classifier.config, name, layers)
        if model.adapter.config.model_type != "albert":  # it shares its layers, and goes by its configuration alone
            name = model.adapter.layers_at
            classifier.base_model.set_submodule(name, classifier.base_model.get_submodule(name)[:layers])
    classifier.eval().requires_grad_(False)
    if precision == "int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch announces that this will move to another package
            classifier = torch.ao.quantization.quantize_dynamic(classifier, {nn.Linear}, dtype=torch.qint8)
    elif precision == "bfloat16":
        classifier = classifier.to(torch.bfloat16)
    classifier = classifier.to(device)
    return torch.compile(classifier, dynamic=True) if compile else classifier


class HuggingFaceModel(Engine):
    """A Hugging Face classifier as an engine; every sample takes its only exit, and none ever waits."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        self.classifier = classifier

    @torch.inference_mode()
    def feed(self, inputs: dict[str, Tensor], rows: Tensor) -> Finished:
        (ids, mask, types), windows = flat_windows(**inputs)
        more = {} if types is None else {"token_type_ids": types}
        logits = self.classifier(input_ids=ids, attention_mask=mask, **more).logits
        return Finished(rows, mean_of_windows(logits.float(), windows), torch.zeros_like(rows))

    def flush(self) -> Finished:
        return Finished.empty([self.classifier.config.num_labels], torch.device("cpu"))


def baselines_of(
    model: MultiExitModel, device: torch.device, compile: bool
) -> Callable[[PrecisionName, int | None], HuggingFaceModel]:
    """Makes the engine of a precision and a number of layers (None: all), each once."""

    @cache
    def of(precision: PrecisionName, layers: int | None) -> HuggingFaceModel:
        return HuggingFaceModel(hugging_face_model(model, device, precision, layers, compile))

    return of
