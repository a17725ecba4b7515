"""Exits at exactly a speed, and thresholds that decide nothing."""

import math

import pytest
import torch

from mebert.metrics.at_speed import describe_inert_threshold, exits_at_speedup, score_range
from mebert.metrics.curve import replay, speedup_layers, threshold_for_speedup


@pytest.mark.parametrize("levels", [2, 3, 1000])
@pytest.mark.parametrize("target", [1.0, 1.3, 2.0, 3.5])
def test_the_speed_is_met_to_one_sample(levels, target):
    torch.manual_seed(levels)
    layers = [2, 4, 6, 8]
    scores = (torch.rand(4, 501) * levels).floor() / levels
    exits = exits_at_speedup(scores, layers, target)
    speed = speedup_layers(exits, layers)
    assert speed >= target - 1e-9
    if target > 1.0:
        spent = 8 * 501 / speed
        assert 8 * 501 / target - spent < 6 + 1e-6, "one sample more at its later exit would be too slow"
        faster = replay(scores, threshold_for_speedup(scores, layers, target))
        assert bool((exits >= faster).all()), "the coin only lets samples stay longer"
        assert torch.equal(exits, exits_at_speedup(scores, layers, target)), "the same coin each time"
    else:
        assert bool((exits == 3).all())


def test_a_speed_out_of_reach():
    scores = torch.rand(3, 20)
    scores[0] = math.inf
    assert exits_at_speedup(scores, [1, 2, 3], 2.0) is None
    assert exits_at_speedup(scores, [1, 2, 3], 1.5) is not None


def test_the_range_is_where_exits_change():
    torch.manual_seed(0)
    scores = torch.rand(3, 40)
    low, high = score_range(scores)
    assert bool((replay(scores, low) == 2).all())
    assert not bool((replay(scores, math.nextafter(low, 2.0) + 1e-6) == 2).all())
    assert bool((replay(scores, high + 1e-6) == 0).all())
    assert not bool((replay(scores, high) == 0).all())
    scores[0] = math.inf  # as patience: nobody may leave at the first exit
    low, high = score_range(scores)
    assert (low, high) == (float(scores[1].min()), float(scores[1].max()))
    assert score_range(torch.full((3, 4), math.inf)) is None


def test_what_is_said():
    scores = torch.tensor([[0.2, 0.6], [0.3, 0.1], [0.0, 0.0]])
    low = describe_inert_threshold("entropy", 0.05, scores, "validation data")
    assert "'entropy'" in low
    assert "every sample runs all layers" in low
    assert "above 0.1 and at most 0.6" in low
    assert "every sample leaves at the first exit;" in describe_inert_threshold("entropy", 0.7, scores, "x")
    scores[0, 0] = math.inf
    assert "that may let it go" in describe_inert_threshold("patience", 0.7, scores, "x")
    for quiet in (0.0, 0.2, 0.6):
        assert describe_inert_threshold("entropy", quiet, scores, "x") is None
