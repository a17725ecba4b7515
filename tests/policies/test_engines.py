"""Every engine takes the exits of the sweep, for every policy, at batches of 1, 7 and 32, from a saved model too."""

import pytest
import torch
from tiny import tiny_batch, tiny_model

from mebert.inference import make_engine, prepare_model, prepare_policy, run_engine
from mebert.metrics.curve import replay
from mebert.models import PrototypeBank
from mebert.policies import (
    FPABEE,
    DistanceRatio,
    Entropy,
    HybridDistanceEntropy,
    LearnedToExit,
    Margin,
    MaxProbability,
    Patience,
    PatientDivergence,
    PatientEntropy,
    Stacked,
    TemperatureScaled,
    ValueChange,
    Voting,
    policy_from_spec,
)


def made(num_labels):
    model = tiny_model("albert", num_labels=num_labels, pooling="mean")  # 4 layers
    if num_labels > 1:
        model.prototypes = PrototypeBank(3, 32, num_labels, dim=8)
        model.prototypes.update(torch.randn(3, 9, 8), torch.arange(9) % num_labels)
    model.exit_scorer = torch.nn.Linear(32, 1)
    return model


CLASSES, ESTIMATES = made(3), made(1)
FAST = {id(model): prepare_model(model) for model in (CLASSES, ESTIMATES)}
TEMPERATURES = (3.0, 0.5, 1.5, 1.0)
RULES = [
    Entropy(),
    MaxProbability(),
    Margin(),
    DistanceRatio(),
    HybridDistanceEntropy(),
    Patience(),
    PatientEntropy(patience=2),
    PatientEntropy(patience=2, average=True),
    FPABEE(patience=2),
    PatientDivergence(patience=1),
    Voting(),
    LearnedToExit(),
    *(TemperatureScaled(policy=p, temperatures=TEMPERATURES) for p in (Entropy(), HybridDistanceEntropy())),
    TemperatureScaled(policy=PatientEntropy(patience=2), temperatures=TEMPERATURES),
    TemperatureScaled(policy=LearnedToExit()),
    Stacked(weights=((0.5, -1.0, 2.0, 0.3, 0.2, -0.5),) * 4),
    ValueChange(),
    ValueChange(patience=2),
]


@torch.inference_mode()
def some_thresholds(scores):
    """Thresholds between the scores that occur, with room for rounding on both sides."""
    values = torch.cat([torch.tensor([0.0, 1.0]), scores[:-1].flatten().clamp(0, 1)]).sort().values
    middles = ((values[1:] + values[:-1]) / 2)[values[1:] - values[:-1] > 1e-4].tolist()
    return {0.0, middles[0], middles[len(middles) // 3], middles[len(middles) // 2], middles[-1], 1.0}


QUICK = ("edr", "stacked", "pcee")  # features, the length, memory


@pytest.mark.parametrize(
    "policy",
    [rule if rule.name in QUICK else pytest.param(rule, marks=pytest.mark.slow) for rule in RULES],
    ids=lambda p: f"{p.name}-{getattr(p, 'patience', getattr(p, 'policy', 0))}",
)
@torch.inference_mode()
def test_engines_take_the_exits_of_the_sweep(policy):
    model = ESTIMATES if policy.regression else CLASSES
    fast, rows = FAST[id(model)], 40
    batch = tiny_batch(rows, tokens=11, seed=3)
    out = model(**batch)
    answers = policy.answers(out.logits)
    answers = out.logits if answers is None else answers
    scores = policy.bind(model).score_exits(out.logits, out.features, batch["attention_mask"])
    seen = set()
    some = sorted(some_thresholds(scores))
    one_each = (some[-2], 0.0, some[1]) if policy.name != "patience" else (0.0, some[2], some[-2])
    for threshold in [*some, one_each]:
        exits = replay(scores, threshold)
        seen |= set(exits.tolist())
        # What `prepare_policy` makes, and the same after a round through its spec.
        ready = prepare_policy(policy.with_threshold(threshold), fast)
        loaded = policy_from_spec(ready.spec()).bind(fast)
        for engine, size in [("full", 7), ("shrink", 1), ("shrink", 7), ("shrink", 32), ("refill", 7), ("refill", 32)]:
            more = {"batch_size": 5} if engine == "refill" else {}
            runner = make_engine(engine, fast, ready if size == 7 else loaded, **more)
            parts = (({k: v[r] for k, v in batch.items()}, r) for r in torch.randperm(rows).split(size))
            done = run_engine(runner, parts)
            assert done.exits.tolist() == exits.tolist(), (engine, size, threshold)
            torch.testing.assert_close(done.logits, answers[exits, torch.arange(rows)], atol=1e-4, rtol=1e-3)
    assert len(seen) > 1, "the thresholds should let some leave"
