"""Drawn exits meet the speed-up, and every engine carries them out alike."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model

from mebert.calibration import ExitCosts
from mebert.commands.bench.points import simulated_points
from mebert.commands.bench.simulated import draw_exits, flops_speedup
from mebert.commands.bench.texts import make_batches, random_texts
from mebert.inference import make_engine, prepare_model, run_engine
from mebert.models import PrototypeBank
from mebert.policies import Entropy, HybridDistanceEntropy, ValueChange

CPU = torch.device("cpu")
MODEL = tiny_model("bert", num_labels=3)
ROWS = random_texts("14,6", 90, 40, 50, seed=1)
LENGTHS = torch.from_numpy(ROWS.lengths)
COSTS = ExitCosts(MODEL, LENGTHS)


@settings(max_examples=40, deadline=None)
@given(speedup=st.floats(1.05, 2.6), seed=st.integers(0, 50))
def test_drawn_exits_meet_the_speedup(speedup, seed):
    flops = COSTS.sequential(Entropy())
    exits = draw_exits(flops, COSTS.plain, speedup, seed)
    reached = flops_speedup(exits, flops, COSTS.plain)
    # One sample more or less is as close as it gets.
    one = float((flops[-1] - flops[0]).max() / COSTS.plain.sum())
    assert abs(1 / reached - 1 / speedup) <= one + 1e-9


def test_shares_fall_from_exit_to_exit_as_in_trained_models():
    flops = torch.arange(1.0, 7.0).double().unsqueeze(1).expand(6, 6000)
    exits = draw_exits(flops, flops[-1], 2.0, seed=0)
    shares = torch.bincount(exits, minlength=6) / 6000
    assert shares[:-1].tolist() == sorted(shares[:-1].tolist(), reverse=True)
    left = shares.flip(0).cumsum(0).flip(0)
    leaving = (shares / left)[:-1]  # of those that are left
    assert float(leaving.max() - leaving.min()) < 0.01
    assert float(exits.double().mean()) + 1 == pytest.approx(3.0, abs=0.01)


def test_length_does_not_decide_who_leaves():
    rows = random_texts("snli", 2000, 128, 50, seed=0)
    costs = ExitCosts(MODEL, torch.from_numpy(rows.lengths))
    exits = draw_exits(costs.sequential(Entropy()), costs.plain, 1.6, seed=0)
    pair = torch.stack([exits.double(), torch.from_numpy(rows.lengths).double()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.06


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_every_engine_takes_the_same_exits(precision):
    model = tiny_model("bert", num_labels=3)
    model.prototypes = PrototypeBank(model.num_exits - 1, 32, 3, dim=8)
    model.prototypes.update(torch.randn(model.num_exits - 1, 9, 8), torch.arange(9) % 3)
    indicators = [Entropy(), HybridDistanceEntropy().bind(model)]
    prepared = prepare_model(model, precision)
    for point in simulated_points(prepared, indicators, ROWS, COSTS, [1.7], seed=4):
        wanted = draw_exits(COSTS.sequential(point.policy), COSTS.plain, 1.7, seed=4)
        for engine in ("full", "shrink", "refill", "predicted"):
            for size, sort in ((1, False), (7, False), (32, True)):
                batches = make_batches(ROWS, size, 0, CPU, sort)
                done = run_engine(point.engine(engine, prepared, size)(), batches)
                assert done.rows.tolist() == list(range(90))
                if precision == "int8" and engine != "predicted":
                    # A batch is quantised as a whole: a sample's features differ from batch to batch.
                    assert (done.exits == wanted).double().mean() > 0.9
                else:
                    assert done.exits.tolist() == wanted.tolist(), (engine, size)


def test_the_indicator_is_asked_and_its_state_travels():
    model = tiny_model("bert", num_labels=1)
    asked = []

    class Watched(ValueChange):
        def decide(self, exit_index, logits, features, state=None):
            asked.append((exit_index, len(logits), None if state is None else {len(part) for part in state}))
            return super().decide(exit_index, logits, features, state)

    costs = ExitCosts(model, LENGTHS)
    (point,) = simulated_points(prepare_model(model), [Watched()], ROWS, costs, [1.5], seed=0)
    run_engine(make_engine("shrink", prepare_model(model), point.policy), make_batches(ROWS, 32, 0, CPU, True))
    assert {exit_index for exit_index, *_ in asked} == {0, 1}
    assert all(state == (None if exit_index == 0 else {rows}) for exit_index, rows, state in asked)
