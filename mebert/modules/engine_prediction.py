"""How a module predicts: a copy of its model prepared for inference, behind an engine.

Shapes: B batch, C classes, n rows that finished.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mebert.exit_predictor import choose_predictor
from mebert.inference import Engine, Finished, make_engine, prepare_model, prepare_policy
from mebert.metrics.task import predictions_of
from mebert.models.multi_exit import model_inputs
from mebert.runtime.precision import inference_precision

if TYPE_CHECKING:
    from mebert.modules.base import MultiExitModule

__all__ = ["EnginePrediction"]


class EnginePrediction:
    """Feeds batches to the engine of a module, as its settings are when the first batch comes.

    Args:
        module: Its model, policy, engine and exit predictors are used. Its precision: bfloat16 where the Trainer's is
            (the weights are cast once, without autocast), float32 otherwise.
        batch_size: Rows of a full batch, for engines that wait for one.
    """

    def __init__(self, module: MultiExitModule, batch_size: int) -> None:
        trainer = getattr(module, "_trainer", None)
        model = prepare_model(module.model, inference_precision(getattr(trainer, "precision", None)))
        settings: dict[str, Any] = {}
        if module.engine in ("refill", "predicted"):
            settings["batch_size"] = max(1, batch_size)
        if module.engine == "predicted":
            settings["predictor"] = choose_predictor(module.exit_predictors, module.policy).to(module.device)
        self.engine: Engine = make_engine(module.engine, model, prepare_policy(module.policy, model), **settings)

    def feed(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rows that finished with this batch; see `MultiExitModule.predict_step`."""
        index = batch["index"]
        with torch.autocast(index.device.type, enabled=False):
            return _as_outputs(self.engine.feed(model_inputs(batch), index))

    def flush(self) -> dict[str, Tensor]:
        """The rows that still waited."""
        with torch.autocast(self.engine.device.type, enabled=False):
            return _as_outputs(self.engine.flush())


def _as_outputs(done: Finished) -> dict[str, Tensor]:
    logits = done.logits
    return {
        "index": done.rows,
        "label": predictions_of(logits),
        "probabilities": logits if logits.shape[-1] == 1 else logits.softmax(-1),
        "exit": done.exits + 1,
    }
