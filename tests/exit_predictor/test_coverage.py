"""From distributions to exits, and the coverage for a wanted speed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mebert.exit_predictor import choose_exits, coverage_for_speedup
from mebert.metrics.curve import speedup_layers

LAYERS = (1, 2, 4, 6)


def random_distributions(seed, rows=15, exits=4):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, exits, generator=generator) * 2).softmax(-1)


def test_by_hand():
    rows = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.2, 0.7], [0.4, 0.2, 0.4], [0.0, 0.5, 0.5]])
    assert choose_exits(rows, None).tolist() == [0, 2, 0, 1], "the earlier of equals"
    assert choose_exits(rows, 0.5).tolist() == [0, 2, 1, 1]
    assert choose_exits(rows, 0.05).tolist() == [0, 0, 0, 1], "an exit without mass is not reached"
    assert choose_exits(rows, 1.0).tolist() == [2, 2, 2, 2]


def test_a_sum_a_little_below_one_reaches_the_last_exit():
    rows = torch.full((1, 10), 0.1 - 1e-9)
    assert choose_exits(rows, 1.0).tolist() == [9]
    assert choose_exits(torch.tensor([[0.3, 0.3, 0.3]]), 1.0).tolist() == [2]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_larger_coverage_never_leaves_earlier(seed, one, other):
    rows = random_distributions(seed)
    low, high = sorted([one, other])
    assert (choose_exits(rows, low) <= choose_exits(rows, high)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(1.0, 7.0))
def test_coverage_for_speedup_is_the_largest_that_reaches_it(seed, target):
    rows = random_distributions(seed)
    found = coverage_for_speedup(rows, LAYERS, target)
    trials = [1e-6, *(rows.cumsum(-1)[:, :-1].flatten().tolist()), 1.0]
    speeds = [speedup_layers(choose_exits(rows, min(t, 1.0)), LAYERS) for t in trials]
    reaching = [speed for speed in speeds if speed >= target]
    if not reaching:
        assert found is None
    else:
        speed = speedup_layers(choose_exits(rows, found), LAYERS)
        assert speed >= target
        assert speed == pytest.approx(min(reaching))


@pytest.mark.parametrize("first", [0.0, 0.5, 1.0])
def test_coverage_of_certain_distributions(first):
    rows = torch.tensor([[first, 1.0 - first]])
    found = coverage_for_speedup(rows, (1, 2), 2.0)
    assert (found is None) == (first == 0)
    assert found is None or choose_exits(rows, found).tolist() == [0]
    assert coverage_for_speedup(rows, (1, 2), 1.0) == 1.0
