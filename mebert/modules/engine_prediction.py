"""Prediction by an engine: batches go in, finished rows come out.

Shapes: B batch, C classes, n rows that finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mebert.choices import PrecisionName
from mebert.exit_predictor import ExitPredictor
from mebert.inference import EngineName, Finished, make_engine, prepare_model, prepare_policy
from mebert.metrics.task import predictions_of, probabilities_of
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.modules.exit_policy import EarlyExitModule
from mebert.policies import ExitPolicy
from mebert.runtime.precision import inference_precision


class EnginePrediction:
    """Feeds batches to an engine that runs a prepared copy of a model, on the model's device and without autocast.

    The engine `predicted` runs by that of the predictors that was fitted to the policy.
    """

    def __init__(
        self,
        model: MultiExitModel,
        policy: ExitPolicy,
        engine: EngineName,
        precision: PrecisionName,
        batch_size: int,
        predictors: Sequence[ExitPredictor],
    ) -> None:
        prepared = prepare_model(model, precision)
        policy = prepare_policy(policy, prepared)
        self.engine = make_engine(engine, prepared, policy, batch_size=max(1, batch_size), predictors=predictors)

    def feed(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rows that finished with this batch, as `MultiExitModule.predict_step` returns them."""
        index = batch["index"]
        with torch.autocast(index.device.type, enabled=False):
            return self._as_outputs(self.engine.feed(model_inputs(batch), index))

    def flush(self) -> dict[str, Tensor]:
        """The rows that were still waiting."""
        with torch.autocast(self.engine.device.type, enabled=False):
            return self._as_outputs(self.engine.flush())

    def _as_outputs(self, done: Finished) -> dict[str, Tensor]:
        logits = self.engine.model.comparable(done.logits, done.exits)
        return {
            "index": done.rows,
            "label": predictions_of(logits),
            "probabilities": probabilities_of(logits, self.engine.model.problem_type),
            "exit": done.exits + 1,
        }


class PredictionModule(EarlyExitModule):
    """A recipe that predicts by an engine.

    Attributes:
        engine: Its name.
    """

    engine: EngineName
    _prediction: EnginePrediction | None = None

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Feed the engine with the batch.

        Returns:
            The rows that finished, which may be others than those of the batch, or none (`refill` and `predicted` hold
            rows back; `flush_predictions` gives the last of them): `index` (n,), `label` (n,) (of several labels a row
            (n, C), 0 or 1), `probabilities` (n, C) (the value itself for regression), and `exit` (n,), counted from 1.
        """
        if self._prediction is None:
            precision = inference_precision(getattr(self._trainer, "precision", None))
            settings = self.model, self.policy, self.engine, precision
            self._prediction = EnginePrediction(*settings, len(batch["index"]), self.exit_predictors)
        return self._prediction.feed(batch)

    def flush_predictions(self) -> dict[str, Tensor] | None:
        """The rows that the engine still holds at the end, as `predict_step` returns them; None: it was never fed."""
        return None if self._prediction is None else self._prediction.flush()

    def on_predict_start(self) -> None:
        self._prediction = None  # weights, policy or engine may be others than the last time

    on_predict_end = on_predict_start
