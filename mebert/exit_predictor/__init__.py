"""Exit-layer prediction: the exit of a text, predicted before any layer runs (GEEP)."""

from mebert.exit_predictor.base import (
    ExitPredictor,
    TokenEvidence,
    choose_predictor,
    load_predictors,
    predictor_from_state,
    save_predictors,
)
from mebert.exit_predictor.coverage import choose_exits, coverage_for_speedup
from mebert.exit_predictor.fitting import (
    PredictorKind,
    PredictorSettings,
    fit_from_scores,
    fit_predictor,
    fit_static,
    score_rows,
)
from mebert.exit_predictor.frequency import FrequencyExitPredictor
from mebert.exit_predictor.linear import LinearExitPredictor
from mebert.exit_predictor.report import PredictionReport, report
from mebert.exit_predictor.tokens import TokenExitPredictor
from mebert.storage.predictor_spec import PredictorOrigin

__all__ = [
    "ExitPredictor",
    "FrequencyExitPredictor",
    "LinearExitPredictor",
    "PredictionReport",
    "PredictorKind",
    "PredictorOrigin",
    "PredictorSettings",
    "TokenEvidence",
    "TokenExitPredictor",
    "choose_exits",
    "choose_predictor",
    "coverage_for_speedup",
    "fit_from_scores",
    "fit_predictor",
    "fit_static",
    "load_predictors",
    "predictor_from_state",
    "report",
    "save_predictors",
    "score_rows",
]
