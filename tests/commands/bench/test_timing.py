"""The clock: order of the rounds, latencies of samples that wait, and what fits a budget."""

import numpy as np
import pytest
import torch

from mebert.commands.bench import timing
from mebert.commands.bench.timing import Pass, run_pass, time_in_turn, within_budget
from mebert.inference import Finished

CPU = torch.device("cpu")


def test_everything_runs_once_a_round_and_nobody_is_always_first():
    order = []

    def make(name):
        def run():
            order.append(name)
            return Pass(1.0 + len(order), np.full(2, 0.5), torch.tensor([0, 1]))

        return run

    ticks = []
    timed = time_in_turn([make(n) for n in "abcdef"], 3, lambda: ticks.append(1))
    rounds = [order[i : i + 6] for i in range(0, 18, 6)]
    assert all(sorted(r) == list("abcdef") for r in rounds)
    assert len({r[0] for r in rounds}) == 3
    assert len(ticks) == 18
    assert [len(runs) for runs in timed] == [3] * 6


class Holding:
    """Answers a batch with the next one, the last at the flush; a second passes in every call."""

    def __init__(self, clock):
        self.clock, self.held = clock, None

    def feed(self, inputs, rows):
        self.clock[0] += 1.0
        before, self.held = self.held, rows
        return self._done(before)

    def flush(self):
        self.clock[0] += 1.0
        return self._done(self.held)

    def _done(self, rows):
        rows = torch.zeros(0, dtype=torch.int64) if rows is None else rows
        return Finished(rows, torch.zeros(len(rows), 2), rows % 3)


def test_latency_is_from_the_batch_to_the_answer(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    batches = [({}, torch.tensor([2, 0])), ({}, torch.tensor([1]))]
    result = run_pass(Holding(clock), batches, CPU)
    assert result.seconds == 3.0
    assert result.latencies.tolist() == [2.0, 2.0, 2.0]  # its own call and the next
    assert result.exits.tolist() == [0, 1, 2]


def test_a_lost_sample_is_noticed():
    class Losing(Holding):
        def flush(self):
            return self._done(None)

    with pytest.raises(AssertionError, match="lost samples"):
        run_pass(Losing([0.0]), [({}, torch.tensor([0]))], CPU)


def test_rounds_then_texts_are_cut():
    assert within_budget(4.0, 3, 60.0) == (3, 1.0)
    assert within_budget(4.0, 9, 28.0) == (5, 1.0)
    assert within_budget(3.0, 9, 4.0) == (2, 0.5)
    assert within_budget(3.0, 1, 2.0) == (1, 0.5)
    assert within_budget(4.0, 3, float("inf")) == (3, 1.0)
    assert within_budget(4.0, 3, -5.0)[1] > 0
    runs = [lambda: Pass(1.0, np.zeros(1), torch.tensor([0]))]
    assert [len(one) for one in time_in_turn(runs, 5, until=0.0)] == [1]
