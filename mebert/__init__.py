"""mebert: early-exit BERT. Train a multi-exit encoder, pick an operating point, run it at that speed.

The public names are loaded when they are first used, so that `import mebert` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AccuracySpeedCurve": "mebert.callbacks",
    "ExitAccuracy": "mebert.callbacks",
    "ExitFLOPs": "mebert.callbacks",
    "ExitPrediction": "mebert.callbacks",
    "PredictionWriter": "mebert.callbacks",
    "EarlyExitClassifier": "mebert.classifier",
    "Prediction": "mebert.classifier",
    "CurriculumDataModule": "mebert.data",
    "SyntheticCurriculumDataModule": "mebert.data",
    "SyntheticEntailmentDataModule": "mebert.data",
    "TextDataModule": "mebert.data",
    "UserError": "mebert.errors",
    "ExitPredictor": "mebert.exit_predictor",
    "LinearExitPredictor": "mebert.exit_predictor",
    "TokenExitPredictor": "mebert.exit_predictor",
    "MultiExitModel": "mebert.models",
    "CurriculumDistillModule": "mebert.modules",
    "FastBERTModule": "mebert.modules",
    "GEEPModule": "mebert.modules",
    "MultiExitModule": "mebert.modules",
    "ProtoExitModule": "mebert.modules",
    "DistanceRatio": "mebert.policies",
    "Entropy": "mebert.policies",
    "ExitPolicy": "mebert.policies",
    "FixedExit": "mebert.policies",
    "HybridDistanceEntropy": "mebert.policies",
    "MaxProbability": "mebert.policies",
    "ValueChange": "mebert.policies",
}

__all__ = [
    "AccuracySpeedCurve",
    "CurriculumDataModule",
    "CurriculumDistillModule",
    "DistanceRatio",
    "EarlyExitClassifier",
    "Entropy",
    "ExitAccuracy",
    "ExitFLOPs",
    "ExitPolicy",
    "ExitPrediction",
    "ExitPredictor",
    "FastBERTModule",
    "FixedExit",
    "GEEPModule",
    "HybridDistanceEntropy",
    "LinearExitPredictor",
    "MaxProbability",
    "MultiExitModel",
    "MultiExitModule",
    "Prediction",
    "PredictionWriter",
    "ProtoExitModule",
    "SyntheticCurriculumDataModule",
    "SyntheticEntailmentDataModule",
    "TextDataModule",
    "TokenExitPredictor",
    "UserError",
    "ValueChange",
    "__version__",
]

if TYPE_CHECKING:
    from mebert.callbacks import AccuracySpeedCurve, ExitAccuracy, ExitFLOPs, ExitPrediction, PredictionWriter
    from mebert.classifier import EarlyExitClassifier, Prediction
    from mebert.data import (
        CurriculumDataModule,
        SyntheticCurriculumDataModule,
        SyntheticEntailmentDataModule,
        TextDataModule,
    )
    from mebert.errors import UserError
    from mebert.exit_predictor import ExitPredictor, LinearExitPredictor, TokenExitPredictor
    from mebert.models import MultiExitModel
    from mebert.modules import (
        CurriculumDistillModule,
        FastBERTModule,
        GEEPModule,
        MultiExitModule,
        ProtoExitModule,
    )
    from mebert.policies import (
        DistanceRatio,
        Entropy,
        ExitPolicy,
        FixedExit,
        HybridDistanceEntropy,
        MaxProbability,
        ValueChange,
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
