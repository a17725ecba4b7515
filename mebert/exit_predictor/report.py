"""The quality of predicted exits, and their effect on accuracy.

Shapes: N samples, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.curve import speedup_layers
from mebert.storage.predictor_spec import PredictorOrigin


@dataclass
class PredictionReport:
    """Predicted exits against those that a policy took; shares are of all samples.

    Attributes:
        exact: The predicted exit is the one taken.
        within_one: It differs by one at most.
        under: It is earlier: fewer layers, and a prediction that the policy did not accept yet.
        over: It is later: layers that the policy would have saved.
        most_frequent: `exact` of predicting the most frequent exit for every sample.
        metric_predicted: The metric at the predicted exits (below: at those taken, at the last); None without labels.
        origin: The exits that the predictor was fitted to, if known.
    """

    samples: int
    exact: float
    within_one: float
    under: float
    over: float
    most_frequent: float
    layers_predicted: float
    layers_taken: float
    speedup_predicted: float
    speedup_taken: float
    metric_predicted: float | None = None
    metric_taken: float | None = None
    metric_full: float | None = None
    origin: PredictorOrigin | None = None
    kind: str = ""
    coverage: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def report(
    predicted: Tensor, taken: Tensor, exit_layers: Sequence[int], metric_at: Callable[[Tensor], float] | None = None
) -> PredictionReport:
    """Compare predicted 0-based exits (N,) with those taken by a policy; `metric_at` gives the metric at exits (N,)."""
    layers = torch.as_tensor(exit_layers, dtype=torch.float64)
    off = predicted - taken
    result = PredictionReport(
        samples=len(taken),
        exact=_share(off == 0),
        within_one=_share(off.abs() <= 1),
        under=_share(off < 0),
        over=_share(off > 0),
        most_frequent=float(torch.bincount(taken).max()) / len(taken),
        layers_predicted=float(layers[predicted].mean()),
        layers_taken=float(layers[taken].mean()),
        speedup_predicted=speedup_layers(predicted, exit_layers),
        speedup_taken=speedup_layers(taken, exit_layers),
    )
    if metric_at is not None:
        result.metric_predicted = metric_at(predicted)
        result.metric_taken = metric_at(taken)
        result.metric_full = metric_at(torch.full_like(taken, len(exit_layers) - 1))
    return result


def _share(rows: Tensor) -> float:
    return float(rows.double().mean())
