"""Every engine takes the exits of the offline sweep, whatever the batches."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import SIZES, tiny_batch, tiny_model

from mebert.errors import UserError
from mebert.exit_predictor import ExitPredictor
from mebert.inference import Finished, make_engine, prepare_model, prepare_policy, run_engine, run_full
from mebert.metrics.curve import replay
from mebert.models import PrototypeBank
from mebert.policies import (
    DistanceRatio,
    Entropy,
    ExitPolicy,
    FixedExit,
    HybridDistanceEntropy,
    MaxProbability,
    ValueChange,
)


@dataclass
class TwoInARow(ExitPolicy):
    """A policy with state in a tuple: two exits in a row below the threshold."""

    name = "two in a row"

    def score(self, exit_index, logits, features):
        return Entropy().score(exit_index, logits, features)

    def score_exits(self, logits, features):
        scores = super().score_exits(logits, features)
        return torch.cat([torch.full_like(scores[:1], torch.inf), torch.maximum(scores[1:], scores[:-1])])

    def decide(self, exit_index, logits, features, state=None):
        score = self.score(exit_index, logits, features)
        before = torch.full_like(score, torch.inf) if state is None else state[0]
        return torch.maximum(score, before) < self.threshold, (score,)


def with_prototypes(model):
    model.prototypes = PrototypeBank(model.num_exits - 1, model.feature_size, 3, dim=8)
    model.prototypes.update(torch.randn(model.num_exits - 1, 9, 8), torch.arange(9) % 3)
    return model


MODELS = {
    "bert": with_prototypes(tiny_model("bert", pooling="mean")),
    "albert": with_prototypes(tiny_model("albert", pooling="fastbert")),
    "distilbert": with_prototypes(tiny_model("distilbert", pooling="cls", exit_layers=[1, 3])),
}
REGRESSION = {"electra": tiny_model("electra", num_labels=1)}
PREPARED = {id(model): prepare_model(model) for model in (MODELS | REGRESSION).values()}
POLICIES = [Entropy(), MaxProbability(), DistanceRatio(), HybridDistanceEntropy(), TwoInARow(), FixedExit(exit=2)]
CASES = [*product(MODELS, POLICIES), *[("electra", ValueChange())] * 6]
ENGINES = ["full", "shrink", "refill"]


@torch.inference_mode()
def swept(model, policy, batch, place):
    """A threshold with a margin to every score, so that rounding turns no decision, and the exits of the sweep."""
    out = model(**batch)
    if isinstance(policy, FixedExit):
        return policy, torch.full((len(batch["input_ids"]),), policy.exit - 1), out
    scores = policy.score_exits(out.logits, out.features)
    values = torch.cat([torch.tensor([0.0, 1.0]), scores[:-1].flatten().clamp(0, 1)]).sort().values
    middles = ((values[1:] + values[:-1]) / 2)[values[1:] - values[:-1] > 1e-3]
    thresholds = [0.0, *middles.tolist(), 1.0]
    chosen = policy.with_threshold(thresholds[round(place * (len(thresholds) - 1))])
    return chosen, replay(scores, chosen.threshold), out


def in_parts(batch, order, size):
    for rows in order.split(size):
        part = {name: value[rows] for name, value in batch.items()}
        width = int(part["attention_mask"].sum(1).max())
        yield {name: value[:, :width] for name, value in part.items()}, rows


def check(done, exits, out):
    rows = torch.arange(len(exits))
    assert done.rows.tolist() == rows.tolist()
    assert done.exits.tolist() == exits.tolist()
    torch.testing.assert_close(done.logits, out.logits[exits, rows], atol=1e-4, rtol=1e-3)


@settings(max_examples=80, deadline=None)
@given(
    case=st.sampled_from(CASES),
    place=st.floats(0, 1),
    engine=st.sampled_from(ENGINES),
    rows=st.integers(1, 40),
    size=st.sampled_from([1, 7, 32]),
    by_length=st.booleans(),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
@example(("bert", Entropy()), 0.0, "refill", 40, 7, False, True, 1)  # none leaves early
@example(("bert", Entropy()), 1.0, "shrink", 40, 7, False, True, 1)  # nearly all at the first exit
@example(("bert", FixedExit(exit=1)), 0.0, "refill", 40, 7, False, True, 1)  # all at the first exit
@example(("albert", Entropy()), 0.5, "shrink", 1, 1, False, True, 1)  # one sample
def test_engines_take_the_exits_of_the_sweep(case, place, engine, rows, size, by_length, padded, seed):
    family, policy = case
    model = (MODELS | REGRESSION)[family]
    fast = PREPARED[id(model)]
    batch = tiny_batch(batch=rows, tokens=11, padded=padded, seed=seed)
    chosen, exits, out = swept(model, policy.bind(model), batch, place)
    lengths = batch["attention_mask"].sum(1)
    order = lengths.argsort(descending=True) if by_length else torch.randperm(rows)
    runner = make_engine(engine, fast, prepare_policy(chosen, fast), batch_size=5)
    check(run_engine(runner, in_parts(batch, order, size)), exits, out)
    assert runner.waiting == 0


class ByContent(ExitPredictor):
    """Predicts an exit from the ids themselves, so that a test knows it."""

    def predict(self, input_ids, attention_mask):
        return (input_ids * attention_mask).sum(1) % self.num_exits


@settings(max_examples=25, deadline=None)
@given(
    family=st.sampled_from(list(MODELS)),
    rows=st.integers(1, 60),
    size=st.sampled_from([1, 7, 32]),
    full=st.sampled_from([1, 4, 9]),
    max_wait=st.sampled_from([None, 0, 2]),
    seed=st.integers(0, 99),
)
def test_predicted_rows_leave_where_they_were_predicted_to(family, rows, size, full, max_wait, seed):
    model = MODELS[family]
    batch = tiny_batch(batch=rows, tokens=11, seed=seed)
    predictor = ByContent(model.num_exits)
    exits = predictor.predict(**batch)
    with torch.inference_mode():
        out = model(**batch)
    fast = PREPARED[id(model)]
    runner = make_engine("predicted", fast, Entropy(), predictors=[predictor], batch_size=full, max_wait=max_wait)
    check(run_engine(runner, in_parts(batch, torch.randperm(rows), size)), exits, out)


def counted_heads():
    """A prepared model, and a list of the exits whose heads it has computed."""
    fast, calls = prepare_model(MODELS["bert"]), []
    for index in range(fast.num_exits):
        fast.exit(index).classifier.register_forward_hook(lambda *_, i=index: calls.append(i))
    return fast, calls


def test_predicted_computes_one_head_a_batch():
    fast, calls = counted_heads()

    class Second(ExitPredictor):
        def predict(self, input_ids, attention_mask):
            return torch.ones(len(input_ids), dtype=torch.int64)

    run_engine(make_engine("predicted", fast, Entropy(), predictors=[Second(3)]), [(tiny_batch(32), torch.arange(32))])
    assert calls == [1]


@pytest.mark.parametrize("engine", ["full", "shrink", "refill", "predicted"])
def test_empty_input(engine):
    model = PREPARED[id(MODELS["bert"])]
    runner = make_engine(engine, model, Entropy(0.5), predictors=[ByContent(3)])
    nothing = runner.feed({name: value[:0] for name, value in tiny_batch().items()}, torch.arange(0))
    for done in (nothing, runner.flush(), run_engine(runner, [])):
        assert isinstance(done, Finished)
        assert done.logits.shape == (0, 3)
        assert len(done) == 0


# ---- rows that wait --------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    engine=st.sampled_from(["refill", "predicted"]),
    size=st.integers(1, 12),
    full=st.integers(1, 9),
    bound=st.integers(0, 20),
    max_wait=st.sampled_from([None, 0, 1, 3]),
)
def test_bounds_on_waiting_hold_after_every_batch(engine, size, full, bound, max_wait):
    model = PREPARED[id(MODELS["bert"])]
    limits = {"batch_size": full, "max_waiting": bound, "max_wait": max_wait}
    runner = make_engine(engine, model, Entropy(0.8), predictors=[ByContent(3)], **limits)
    missing: dict[int, int] = {}
    batch = tiny_batch(60, tokens=11, seed=size)
    for number, (inputs, rows) in enumerate(in_parts(batch, torch.arange(60), size)):
        missing |= dict.fromkeys(rows.tolist(), number)
        for row in runner.feed(inputs, rows).rows.tolist():
            del missing[row]
        assert runner.waiting == len(missing) <= bound
        if max_wait is not None:
            assert all(number - fed < max_wait for fed in missing.values())
    assert sorted(runner.flush().rows.tolist()) == sorted(missing)


def test_refill_runs_full_batches_only_until_it_is_flushed():
    model = prepare_model(MODELS["bert"])
    sizes = []
    for layer in model.fused:
        layer.register_forward_hook(lambda module, inputs, output: sizes.append(sum(g.rows for g in inputs[1].groups)))
    runner = make_engine("refill", model, Entropy(0.8), batch_size=8)
    for inputs, rows in in_parts(tiny_batch(64, seed=4), torch.arange(64), 8):
        runner.feed(inputs, rows)
    assert set(sizes) == {8}
    runner.flush()
    assert min(sizes) < 8


def test_an_engine_can_be_fed_again_after_a_flush():
    model = PREPARED[id(MODELS["bert"])]
    runner = make_engine("refill", model, Entropy(0.8), batch_size=4)
    batch = tiny_batch(10, seed=2)
    first = run_engine(runner, [(batch, torch.arange(10))])
    second = run_engine(runner, [(batch, torch.arange(10))])
    assert torch.equal(first.exits, second.exits)


# ---- other precisions, other layouts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(SIZES))
def test_engines_take_the_same_exits_in_every_family_prepared_or_not(family):
    model = tiny_model(family)
    fast = prepare_model(model)
    batch = tiny_batch(12, seed=5)
    chosen, exits, out = swept(model, Entropy(), batch, 0.6)
    assert len(set(exits.tolist())) > 1
    for engine, made in product(ENGINES, (model, fast)):
        runner = make_engine(engine, made, prepare_policy(chosen, made), batch_size=5)
        check(run_engine(runner, in_parts(batch, torch.arange(12), 7)), exits, out)


@pytest.mark.parametrize("engine", ENGINES)
def test_padding_on_the_left_is_left_out_too(engine):
    model = MODELS["bert"]
    batch = {name: value.flip(1) for name, value in tiny_batch(12, seed=6).items()}
    chosen, exits, out = swept(model, Entropy(), batch, 0.6)
    fast = PREPARED[id(model)]
    runner = make_engine(engine, fast, chosen, batch_size=5)
    check(run_engine(runner, [(batch, torch.arange(12))]), exits, out)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_low_precision_stays_near_and_its_engines_agree(precision):
    model = MODELS["bert"]
    fast = prepare_model(model, precision)
    batch = tiny_batch(30, seed=7)
    policy, _, _ = swept(fast, HybridDistanceEntropy().bind(fast), batch, 0.6)
    full = run_full(fast, policy, batch)
    assert full.logits.dtype == torch.float32
    reference = run_full(model, policy.with_threshold(0.0), batch).logits
    torch.testing.assert_close(run_full(fast, Entropy(0.0), batch).logits, reference, atol=0.05, rtol=0.05)
    if precision == "bfloat16":  # int8 scales its inputs by the batch they come in
        shrunk = run_engine(make_engine("shrink", fast, policy), [(batch, torch.arange(30))])
        assert (shrunk.exits == full.exits).float().mean() > 0.9


def test_an_exit_that_cannot_fire_is_not_computed():
    model, calls = counted_heads()
    for engine in ENGINES:
        run_engine(make_engine(engine, model, Entropy(0.0)), [(tiny_batch(), torch.arange(5))])
        run_engine(make_engine(engine, model, FixedExit(exit=2)), [(tiny_batch(), torch.arange(5))])
    assert calls == [2, 1, 2, 2, 1, 2, 1]  # full goes on to the last exit, whose answer nobody takes


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_waiting": -1}, "max_waiting must be at least 0, got -1"),
        ({"max_wait": -1}, "max_wait must be at least 0, got -1"),
    ],
)
def test_mistakes_are_named(settings, text):
    with pytest.raises(UserError, match=text):
        make_engine("refill", MODELS["bert"], Entropy(), **settings)
    with pytest.raises(UserError, match="int8 runs on the CPU only"):
        prepare_model(MODELS["bert"], "int8", device="meta")
