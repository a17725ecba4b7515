from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_batch, tiny_model

from mebert.inference import run_full, run_shrink
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
    """A policy with state: two exits in a row below the threshold."""

    name = "two"

    def score(self, exit_index, logits, features):
        return Entropy().score(exit_index, logits, features)

    def decide(self, exit_index, logits, features, state=None):
        below = self.score(exit_index, logits, features) < self.threshold
        before = torch.zeros_like(below) if state is None else state
        return below & before, below


def model_with_prototypes(family="bert"):
    model = tiny_model(family, pooling="mean")
    model.prototypes = PrototypeBank(model.num_exits - 1, 32, 3, dim=8)
    model.prototypes.update(torch.randn(model.num_exits - 1, 9, 8), torch.arange(9) % 3)
    return model


MODEL = model_with_prototypes()
REGRESSION = tiny_model("albert", num_labels=1)  # four layers
POLICIES = [Entropy(), MaxProbability(), DistanceRatio(), HybridDistanceEntropy(), TwoInARow(), FixedExit(exit=2)]


@settings(max_examples=25, deadline=None)
@given(threshold=st.floats(0, 1), seed=st.integers(0, 99), policy=st.sampled_from(POLICIES))
def test_engines_name_the_same_exits_whatever_the_batch(threshold, seed, policy):
    policy = policy.bind(MODEL).with_threshold(threshold)
    batch = tiny_batch(batch=9, seed=seed)
    full = run_full(MODEL, policy, batch)
    for size in (1, 4, 9):
        parts = [run_shrink(MODEL, policy, {k: v[i : i + size] for k, v in batch.items()}) for i in range(0, 9, size)]
        assert torch.cat([p.exits for p in parts]).tolist() == full.exits.tolist()
        torch.testing.assert_close(torch.cat([p.logits for p in parts]), full.logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("policy", [p for p in POLICIES if not isinstance(p, TwoInARow)], ids=lambda p: p.name)
def test_live_engines_agree_with_the_offline_replay(policy):
    policy = policy.bind(MODEL).with_threshold(0.3 if policy.name == "max_prob" else 0.6)
    batch = tiny_batch(batch=30, seed=3)
    with torch.no_grad():
        out = MODEL(**batch)
        scores = torch.stack([policy.score(e, out.logits[e], out.features[e]) for e in range(MODEL.num_exits)])
    offline = replay(scores, policy.threshold if policy.name != "fixed" else 0.5)
    assert run_shrink(MODEL, policy, batch).exits.tolist() == offline.tolist()
    assert len(set(offline.tolist())) > 1 or policy.name == "fixed"  # the batch really splits


@settings(max_examples=25, deadline=None)
@given(threshold=st.floats(0, 1), seed=st.integers(0, 99))
def test_regression_engines_agree_with_the_offline_replay(threshold, seed):
    policy, batch = ValueChange(threshold), tiny_batch(batch=9, seed=seed)
    with torch.no_grad():
        out = REGRESSION(**batch)
    offline = replay(policy.score_exits(out.logits, out.features), threshold)
    full = run_full(REGRESSION, policy, batch)
    assert full.exits.tolist() == offline.tolist()
    for size in (1, 4, 9):
        parts = [
            run_shrink(REGRESSION, policy, {k: v[i : i + size] for k, v in batch.items()}) for i in range(0, 9, size)
        ]
        assert torch.cat([p.exits for p in parts]).tolist() == offline.tolist()
        torch.testing.assert_close(torch.cat([p.logits for p in parts]), full.logits, atol=1e-5, rtol=1e-4)


def test_regression_samples_leave_at_different_exits():
    exits = run_shrink(REGRESSION, ValueChange(0.35), tiny_batch(batch=30)).exits
    assert len(set(exits.tolist())) > 1


@pytest.mark.parametrize("family", ["roberta", "albert", "electra", "distilbert"])
def test_other_families_shrink_alike(family):
    model = model_with_prototypes(family)
    policy = Entropy(0.8)
    batch = tiny_batch(batch=12, seed=5)
    full, shrink = run_full(model, policy, batch), run_shrink(model, policy, batch)
    assert full.exits.tolist() == shrink.exits.tolist()
    torch.testing.assert_close(full.logits, shrink.logits, atol=1e-5, rtol=1e-4)


def test_the_last_exit_always_leaves_and_uses_its_own_head():
    batch = tiny_batch()
    never = run_shrink(MODEL, Entropy(0.0), batch)
    assert never.exits.tolist() == [MODEL.num_exits - 1] * 5
    with torch.no_grad():
        torch.testing.assert_close(never.logits, MODEL.last_exit(**batch), atol=1e-5, rtol=1e-4)


def test_layers_after_the_last_survivor_do_not_run():
    calls = []
    hooks = [
        layer.register_forward_hook(lambda *_, i=i: calls.append(i))
        for i, layer in enumerate(MODEL.encoder.encoder.layer)
    ]
    run_shrink(MODEL, FixedExit(exit=1), tiny_batch())
    for hook in hooks:
        hook.remove()
    assert calls == [0]
