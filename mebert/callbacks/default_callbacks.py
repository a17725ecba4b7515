"""The callbacks that every run has, by their section of a configuration."""

from __future__ import annotations

import lightning as L

from mebert.callbacks.best_checkpoint import BestCheckpoint
from mebert.callbacks.curriculum_monitor import CurriculumMonitor
from mebert.callbacks.curve import AccuracySpeedCurve
from mebert.callbacks.early_stopping import StopEarly
from mebert.callbacks.exit_accuracy import ExitAccuracy
from mebert.callbacks.exit_flops import ExitFLOPs
from mebert.callbacks.exit_prediction import ExitPrediction
from mebert.callbacks.finite_loss import FiniteLoss
from mebert.callbacks.last_checkpoint import LastCheckpoint
from mebert.callbacks.prediction_writer import PredictionWriter
from mebert.callbacks.wandb_report import WandbReport

CALLBACKS: dict[str, type[L.Callback]] = {
    "checkpoint": BestCheckpoint,
    "last_checkpoint": LastCheckpoint,
    "exit_accuracy": ExitAccuracy,
    "curve": AccuracySpeedCurve,
    "exit_flops": ExitFLOPs,  # after the curve, which it reads
    "predictions": PredictionWriter,
    "curriculum": CurriculumMonitor,
    "exit_prediction": ExitPrediction,
    "early_stopping": StopEarly,
    "finite_loss": FiniteLoss,
    "wandb": WandbReport,  # after the curve, too
}
