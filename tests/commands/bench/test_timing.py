"""The clock: order of the rounds, latencies of samples that wait, and ratios of recorded seconds."""

import numpy as np
import pytest
import torch

from mebert.commands.bench import timing
from mebert.commands.bench.results import Row, verdict
from mebert.commands.bench.timing import Pass, run_pass, time_in_turn
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


def row(name, seconds, precision="float32", size=32, target=None):
    return Row(
        name, precision, size, "entropy" if target else "", target, 10, seconds, 1.0, 1.0, 1.0,
        10 / sorted(seconds)[1], 3.0, 2.1 if target else 1.0, None, None, None,
    )  # fmt: skip


def test_the_verdict_names_the_best_of_both_sides():
    rows = [row("HF", [9, 9, 9]), row("HF sorted", [4, 4, 4], "bfloat16"), row("plain", [5, 5, 5])]
    rows += [row("HF 3 layers", [1, 1, 1])]  # no rival: it is not the whole model
    rows += [row("shrink", [3, 3, 3], target=2.0), row("refill", [2, 2, 2], "bfloat16", target=2.0)]
    rows += [row("refill", [1, 1, 1], target=3.0)]  # faster, and less likely to keep the accuracy
    line = verdict(rows)
    assert line.startswith("Early exit pays here: at batch 32 refill in bfloat16 gives 2.00x the samples/s of the")
    assert "(HF sorted, bfloat16) with 2.10x fewer FLOPs" in line
    assert "\n" not in line


def test_the_verdict_says_no_and_in_part():
    never = [row("HF", [1, 1, 1]), row("shrink", [1.2, 1.2, 1.2], target=2.0)]
    assert verdict(never).startswith("Early exit does not pay here: at batch 32 shrink in float32 gives 0.83x")
    part = [*never, row("HF", [1, 1, 1], size=1), row("shrink", [0.5, 0.5, 0.5], size=1, target=2.0)]
    assert verdict(part).startswith("Early exit pays here in part: at batch 1 shrink")
    assert "It does not at batch 32" in verdict(part)
    assert "nothing to say" in verdict([row("HF", [1, 1, 1])])
