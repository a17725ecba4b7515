"""Reports and the table of a recorded split's exit predictions."""

import pytest
import torch

from mebert.exit_predictor import PredictorOrigin, TokenExitPredictor
from mebert.metrics.curve import ExitRecord
from mebert.report.evaluation import prediction_reports
from mebert.report.tables import console, prediction_table

LAYERS = (2, 4, 6)
PREDICTED, TAKEN = torch.tensor([0, 1, 2, 0, 2]), torch.tensor([0, 2, 0, 1, 2])
CORRECT = torch.tensor([[1, 0, 0, 0, 0], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1]]).bool()


def record():
    logits = torch.zeros(3, 5, 2)
    logits[..., 1] = torch.where(CORRECT, 1.0, -1.0)
    scores = torch.ones(3, 5)
    scores[TAKEN, torch.arange(5)] = 0.0
    return ExitRecord(
        logits,
        torch.ones(5).long(),
        torch.arange(5),
        torch.full((5,), 3),
        {"entropy": scores},
        predicted=[PREDICTED] * 3,
    )


def test_of_a_recorded_split():
    predictors = [TokenExitPredictor(3, 10, coverage=0.5) for _ in range(3)]
    predictors[0].origin = PredictorOrigin("entropy", 0.5, 2.0)
    predictors[1].origin = PredictorOrigin("edr", 0.5)  # not recorded; the third one's origin is not known
    found = prediction_reports(record(), predictors, LAYERS, "acc")
    assert len(found) == 1
    assert [found[0].metric_predicted, found[0].metric_taken] == pytest.approx([0.6, 0.8])
    assert found[0].exact == 0.4


def test_table(capsys):
    predictors = [TokenExitPredictor(3, 10) for _ in range(3)]
    for predictor in predictors:
        predictor.origin = PredictorOrigin("entropy", 0.5, 2.0)
    console().print(prediction_table(prediction_reports(record(), predictors, LAYERS, "acc"), "acc", "test"))
    out = capsys.readouterr().out
    for text in ("entropy 0.5 (2x)", "likeliest", "40.0%", "0.6000", "0.8000", "TokenExitPredictor (test)"):
        assert text in out
    assert "…" not in out, "nothing is cut"
