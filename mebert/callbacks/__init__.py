"""Lightning callbacks: what is measured, reported and written during a run."""

from mebert.callbacks.curve import AccuracySpeedCurve
from mebert.callbacks.exit_accuracy import ExitAccuracy
from mebert.callbacks.exit_flops import ExitFLOPs
from mebert.callbacks.exit_prediction import ExitPrediction
from mebert.callbacks.prediction_writer import PredictionWriter
from mebert.callbacks.wandb_report import WandbReport

__all__ = ["AccuracySpeedCurve", "ExitAccuracy", "ExitFLOPs", "ExitPrediction", "PredictionWriter", "WandbReport"]
