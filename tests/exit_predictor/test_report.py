"""The report on predictions, by hand."""

import json

import pytest
import torch

from mebert.exit_predictor import report

LAYERS = (2, 4, 6)
PREDICTED, TAKEN = torch.tensor([0, 1, 2, 0, 2]), torch.tensor([0, 2, 0, 1, 2])
CORRECT = torch.tensor([[1, 0, 0, 0, 0], [1, 0, 1, 1, 1], [1, 1, 1, 1, 1]]).bool()


def test_by_hand():
    found = report(PREDICTED, TAKEN, LAYERS, lambda exits: float(CORRECT[exits, torch.arange(5)].double().mean()))
    assert (found.exact, found.within_one, found.under, found.over) == (0.4, 0.8, 0.4, 0.2)
    assert found.most_frequent == 0.4
    assert found.layers_predicted == pytest.approx((2 + 4 + 6 + 2 + 6) / 5)
    assert found.layers_taken == pytest.approx((2 + 6 + 2 + 4 + 6) / 5)
    assert found.speedup_predicted == pytest.approx(6 / found.layers_predicted)
    assert (found.metric_predicted, found.metric_taken, found.metric_full) == (0.6, 0.8, 1.0)
    assert found.under + found.exact + found.over == pytest.approx(1.0)


def test_without_labels():
    found = report(PREDICTED, TAKEN, LAYERS)
    assert found.metric_full is None
    json.dumps(found.as_dict())
