"""mebert: early-exit BERT. Train a multi-exit encoder, pick an operating point, run it at that speed.

The public names are loaded when they are first used, so that `import mebert` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOMES = {
    "AccuracySpeedCurve": "mebert.callbacks",
    "ExitAccuracy": "mebert.callbacks",
    "ExitFLOPs": "mebert.callbacks",
    "ExitPrediction": "mebert.callbacks",
    "PredictionWriter": "mebert.callbacks",
    "WandbReport": "mebert.callbacks",
    "EarlyExitClassifier": "mebert.inference.classifier",
    "Prediction": "mebert.inference.classifier",
    "CurriculumDataModule": "mebert.curriculum",
    "SyntheticCurriculumDataModule": "mebert.curriculum",
    "SyntheticEntailmentDataModule": "mebert.data",
    "TextDataModule": "mebert.data",
    "UserError": "mebert.errors",
    "ExitPredictor": "mebert.exit_predictor",
    "FrequencyExitPredictor": "mebert.exit_predictor",
    "LinearExitPredictor": "mebert.exit_predictor",
    "TokenExitPredictor": "mebert.exit_predictor",
    "EarlyExitWandbLogger": "mebert.loggers",
    "CascadeModel": "mebert.models",
    "MultiExitModel": "mebert.models",
    "fit_prototypes": "mebert.models",
    "BERxiTModule": "mebert.modules",
    "CurriculumDistillModule": "mebert.modules",
    "DeeBERTModule": "mebert.modules",
    "ElasticBERTModule": "mebert.modules",
    "FastBERTModule": "mebert.modules",
    "GEEPModule": "mebert.modules",
    "GPFEEModule": "mebert.modules",
    "MultiExitModule": "mebert.modules",
    "PABEEModule": "mebert.modules",
    "ProtoExitModule": "mebert.modules",
    "RomeBERTModule": "mebert.modules",
    "DistanceRatio": "mebert.policies",
    "Entropy": "mebert.policies",
    "ExitPolicy": "mebert.policies",
    "FixedExit": "mebert.policies",
    "HybridDistanceEntropy": "mebert.policies",
    "LearnedToExit": "mebert.policies",
    "LearnedWeightsModule": "mebert.modules",
    "Margin": "mebert.policies",
    "MaxProbability": "mebert.policies",
    "Patience": "mebert.policies",
    "PatientDivergence": "mebert.policies",
    "PatientEntropy": "mebert.policies",
    "Stacked": "mebert.policies",
    "TemperatureScaled": "mebert.policies",
    "ValueChange": "mebert.policies",
    "Voting": "mebert.policies",
}

__all__ = [
    "AccuracySpeedCurve",
    "BERxiTModule",
    "CascadeModel",
    "CurriculumDataModule",
    "CurriculumDistillModule",
    "DeeBERTModule",
    "DistanceRatio",
    "EarlyExitClassifier",
    "EarlyExitWandbLogger",
    "ElasticBERTModule",
    "Entropy",
    "ExitAccuracy",
    "ExitFLOPs",
    "ExitPolicy",
    "ExitPrediction",
    "ExitPredictor",
    "FastBERTModule",
    "FixedExit",
    "FrequencyExitPredictor",
    "GEEPModule",
    "GPFEEModule",
    "HybridDistanceEntropy",
    "LearnedToExit",
    "LearnedWeightsModule",
    "LinearExitPredictor",
    "Margin",
    "MaxProbability",
    "MultiExitModel",
    "MultiExitModule",
    "PABEEModule",
    "Patience",
    "PatientDivergence",
    "PatientEntropy",
    "Prediction",
    "PredictionWriter",
    "ProtoExitModule",
    "RomeBERTModule",
    "Stacked",
    "SyntheticCurriculumDataModule",
    "SyntheticEntailmentDataModule",
    "TemperatureScaled",
    "TextDataModule",
    "TokenExitPredictor",
    "UserError",
    "ValueChange",
    "Voting",
    "WandbReport",
    "__version__",
    "fit_prototypes",
]

if TYPE_CHECKING:
    from mebert.callbacks import (
        AccuracySpeedCurve,
        ExitAccuracy,
        ExitFLOPs,
        ExitPrediction,
        PredictionWriter,
        WandbReport,
    )
    from mebert.curriculum import CurriculumDataModule, SyntheticCurriculumDataModule
    from mebert.data import SyntheticEntailmentDataModule, TextDataModule
    from mebert.errors import UserError
    from mebert.exit_predictor import (
        ExitPredictor,
        FrequencyExitPredictor,
        LinearExitPredictor,
        TokenExitPredictor,
    )
    from mebert.inference.classifier import EarlyExitClassifier, Prediction
    from mebert.loggers import EarlyExitWandbLogger
    from mebert.models import CascadeModel, MultiExitModel, fit_prototypes
    from mebert.modules import (
        BERxiTModule,
        CurriculumDistillModule,
        DeeBERTModule,
        ElasticBERTModule,
        FastBERTModule,
        GEEPModule,
        GPFEEModule,
        LearnedWeightsModule,
        MultiExitModule,
        PABEEModule,
        ProtoExitModule,
        RomeBERTModule,
    )
    from mebert.policies import (
        DistanceRatio,
        Entropy,
        ExitPolicy,
        FixedExit,
        HybridDistanceEntropy,
        LearnedToExit,
        Margin,
        MaxProbability,
        Patience,
        PatientDivergence,
        PatientEntropy,
        Stacked,
        TemperatureScaled,
        ValueChange,
        Voting,
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
