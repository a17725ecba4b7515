"""Reports and the table of a recorded split's exit predictions."""

import pytest
import torch

from mebert.exit_predictor import PredictorOrigin, TokenExitPredictor, report
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
    made = ExitRecord(logits, torch.ones(5).long(), torch.arange(5), torch.full((5,), 3), {"entropy": scores})
    made.predicted = [PREDICTED] * 3
    return made


def reports(*origins):
    predictors = [TokenExitPredictor(3, 10) for _ in range(3)]
    for predictor, origin in zip(predictors, origins, strict=False):
        predictor.origin = origin
    return prediction_reports(record(), predictors, LAYERS, "acc")


def test_of_a_recorded_split_by_hand():
    # The second is of a policy that is not recorded; the third one's origin is not known.
    (found,) = reports(PredictorOrigin("entropy", 0.5, 2.0), PredictorOrigin("edr", 0.5))
    assert (found.exact, found.within_one, found.under, found.over) == (0.4, 0.8, 0.4, 0.2)
    assert found.most_frequent == 0.4
    assert found.layers_predicted == pytest.approx((2 + 4 + 6 + 2 + 6) / 5)
    assert found.layers_taken == pytest.approx((2 + 6 + 2 + 4 + 6) / 5)
    assert found.speedup_predicted == pytest.approx(6 / found.layers_predicted)
    metrics = [found.metric_predicted, found.metric_taken, found.metric_full]
    assert metrics == pytest.approx([0.6, 0.8, 1.0])
    assert report(PREDICTED, TAKEN, LAYERS).metric_full is None, "without labels"


def test_table(capsys):
    table = prediction_table(reports(*[PredictorOrigin("entropy", 0.5, 2.0)] * 3), "acc", "test")
    console().print(table)
    out = capsys.readouterr().out
    for text in ("entropy 0.5 (2x)", "likeliest", "40.0%", "0.6000", "0.8000", "TokenExitPredictor (test)"):
        assert text in out
    assert "…" not in out, "nothing is cut"
