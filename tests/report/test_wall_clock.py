"""The wall-clock column: enough texts, the spread over rounds, and no figure that the rounds do not support."""

import time
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_batch, tiny_model

from mebert.callbacks.wall_clock import WallClock
from mebert.metrics.curve import CurvePoint
from mebert.policies import Entropy, ExitPolicy
from mebert.report.wall_clock import Timing, deal, measure_speedups, told_apart


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 300))
def test_batches_are_dealt_to_rounds(batches, rounds, turns):
    dealt = deal(batches, rounds, turns)
    assert len(dealt) == rounds * min(batches, max(1, turns // rounds))
    assert {round_index for _, round_index in dealt} == set(range(rounds)), "every round has a batch"
    assert {number for number, _ in dealt} <= set(range(batches))
    assert len(set(dealt)) == len(dealt), "no batch twice in a round"
    if len(dealt) >= batches:
        assert {number for number, _ in dealt} == set(range(batches)), "all texts"


def test_speedups_that_rounds_do_not_tell_apart():
    def clear(*points):
        return told_apart([Timing(*point[:3]) for point in points], [point[3] for point in points])

    assert clear((1.9, 1.85, 1.95, 2.0), (2.8, 2.7, 2.9, 3.0)) == [True, True]
    assert clear((11.0, 2.0, 14.0, 4.0)) == [False], "more than lies between it and the plain model"
    assert clear((1.9, 1.3, 2.5, 2.0), (2.8, 2.7, 2.9, 3.0)) == [False, True]
    assert clear((1.01, 0.9, 1.1, 1.0)) == [True], "nothing to tell apart: all layers"
    assert clear((2.0, 1.9, 2.1, 2.0), (2.05, 1.95, 2.1, 2.02)) == [True, True], "the same speed by layers"


class ShortTexts(ExitPolicy):
    """Texts of less than five tokens leave at once, all others never; each decision takes a while."""

    name = "short"

    def start(self, attention_mask):
        return attention_mask.sum(1)

    def observe(self, exit_index, logits, features, state=None):
        time.sleep(0.002)
        return (state >= 5).float(), state


def batch(tokens, rows=8):
    return tiny_batch(batch=rows, tokens=tokens, padded=False) | {"index": torch.arange(rows)}


def test_few_texts_of_one_kind_do_not_stand_for_all():
    """Batches sorted by length and no time: the first one alone would be timed, where all leave at once."""
    model = tiny_model("bert")
    batches = [batch(4), *(batch(tokens) for tokens in range(20, 60, 4))]
    ((timing,), samples) = measure_speedups(model, [ShortTexts(0.5)], batches, budget=0.0)
    assert samples == 5 * 8, "each of the rounds has other texts"
    assert timing.low < timing.speedup < timing.high
    point = CurvePoint("short", 0.5, 0.9, 1.05, 1.05, torch.zeros(1), target=1.05)
    evaluation = SimpleNamespace(points={"short": [point]}, current=None, wall_setting="")
    module = SimpleNamespace(model=model, score_policies=lambda: {"short": ShortTexts(0.5)}, device=torch.device("cpu"))
    clock = WallClock(2048, 5, 0.0, {0: batches})
    clock.measure(SimpleNamespace(precision="32-true"), module, evaluation, 0)
    low, high = point.speedup_wall_range
    assert point.speedup_wall is None or high - low <= abs(point.speedup_wall - 1)
    assert "40 samples, batches of 8, 5 rounds" in evaluation.wall_setting


def test_every_policy_is_timed_for_a_second_or_on_all_texts():
    model = tiny_model("bert")
    padded = batch(9) | {"index": torch.tensor([0, 1, 2, 3, 4, 5, -1, -1])}
    timings, samples = measure_speedups(model, [Entropy(0.0), Entropy(1.0)], [padded, padded], rounds=3)
    assert samples == 12, "padding rows are left out"
    assert all(0 < one.low <= one.speedup <= one.high for one in timings)


@pytest.mark.parametrize(("size", "kept"), [(8, [0, 1, 2, 3]), (16, [0, 2])])
def test_batches_are_kept_evenly(size, kept):
    clock = WallClock(32, 5, 1.0)
    for number in range(4):
        clock.offer({"index": torch.full((size,), number)}, number, 4, 0)
    assert [int(one["index"][0]) for one in clock.batches[0]] == kept
