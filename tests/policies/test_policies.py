import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from tiny import tiny_model

from mebert.errors import UserError
from mebert.models import PrototypeBank
from mebert.policies import (
    DistanceRatio,
    Entropy,
    FixedExit,
    HybridDistanceEntropy,
    MaxProbability,
    ValueChange,
    distance_ratio,
    hybrid_indicator,
    normalised_entropy,
)

unit = st.floats(0, 1)


def test_entropy_equals_scipy():
    logits = torch.randn(50, 4, dtype=torch.float64) * 3
    expected = scipy_entropy(logits.softmax(-1).numpy(), axis=-1) / math.log(4)
    torch.testing.assert_close(normalised_entropy(logits), torch.tensor(expected).float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [95.0, 1e4])
def test_extreme_logits_are_certain_not_nan(dtype, size):
    logits = torch.tensor([[size, -size, -size], [size, size, size], [-size, -size, -size]], dtype=dtype)
    assert normalised_entropy(logits).tolist() == pytest.approx([0.0, 1.0, 1.0], abs=1e-6)
    leave, _ = Entropy(0.1).decide(0, logits, torch.zeros(3, 4))
    assert leave.tolist() == [True, False, False]
    assert MaxProbability().score(0, logits, torch.zeros(3, 4))[0] == 0


@pytest.mark.parametrize(
    ("distances", "predicted", "expected"),
    [
        ([1.0, 2.0, 5.0], 0, 0.25),  # r1 = 1, r2 = 2: (1 + (1 - 2) / 2) / 2
        ([1.0, 2.0, 5.0], 1, 0.75),  # the prediction is not the nearest: r1 = 2, r2 = 1
        ([1.0, 2.0, 5.0], 2, 0.9),
        ([3.0, 3.0, 9.0], 0, 0.5),
        ([0.0, 4.0, 4.0], 0, 0.0),
        ([0.0, 0.0, 4.0], 0, 0.5),  # both at distance 0: undecided
        ([1.0, math.inf, math.inf], 0, 0.0),  # no other prototype
        ([math.inf, 1.0, 2.0], 0, 1.0),  # the predicted class has none
    ],
)
def test_distance_ratio_by_hand(distances, predicted, expected):
    got = distance_ratio(torch.tensor([distances]), torch.tensor([predicted]))
    assert got.tolist() == pytest.approx([expected])


@given(dr=unit, u=unit, lam=st.floats(0, 100))
def test_hybrid_lies_between_its_parts_and_equals_the_formula(dr, u, lam):
    got = float(hybrid_indicator(torch.tensor([dr]), torch.tensor([u]), lam))
    assert hybrid_indicator(torch.tensor([dr]), torch.tensor([u]), math.inf).item() == torch.tensor(dr).item()
    assert min(dr, u) - 1e-6 <= got <= max(dr, u) + 1e-6
    if dr > 1e-6 and u > 1e-6:
        assert got == pytest.approx((lam + 1) / (lam / dr + 1 / u), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    "policy",
    [Entropy(), MaxProbability(), DistanceRatio(), HybridDistanceEntropy(lam=0.7), FixedExit(exit=2)],
    ids=lambda p: p.name,
)
def test_a_laxer_threshold_never_makes_a_sample_stay(policy):
    model = tiny_model()
    model.prototypes = PrototypeBank(2, 32, 3, dim=8)
    model.prototypes.update(torch.randn(2, 9, 8), torch.arange(9) % 3)
    policy = policy.bind(model)
    logits, features = torch.randn(200, 3) * 3, torch.randn(200, 32)
    for exit_index in range(3):
        score = policy.score(exit_index, logits, features)
        assert ((score >= 0) & (score <= 1)).all()
        limits = [policy.with_threshold(limit) for limit in torch.linspace(0, 1, 21).tolist()]
        leave = torch.stack([one.decide(exit_index, logits, features)[0] for one in limits])
        assert (leave[1:] >= leave[:-1]).all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Entropy(1.5), r"Entropy: threshold must be in \[0, 1\], got 1.5"),
        (lambda: ValueChange(1.5), r"ValueChange: threshold must be in \[0, 1\]"),
        (lambda: DistanceRatio().bind(tiny_model()), "needs prototypes"),
        (lambda: DistanceRatio().score(0, torch.zeros(1, 2), torch.zeros(1, 4)), "not bound"),
    ],
)
def test_mistakes_are_named(make, text):
    with pytest.raises(UserError, match=text):
        make()
