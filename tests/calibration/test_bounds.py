"""P-values against the sum of binomial terms and the formula written out; the sequence of tests against a loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from mebert.calibration.bounds import (
    betting_p_value,
    binomial_p_value,
    fixed_sequence,
    hoeffding_bentkus_p_value,
    holm,
    smallest_binomial_split,
)
from mebert.calibration.risks import RISKS


@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (7, 0.5), (229, 0.01), (400, 0.505)])
def test_binomial_tail_is_the_sum_of_its_terms(n, p):
    terms = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    errors = torch.tensor([[0, min(3, n)], [n // 2, n]])
    expected = [[math.fsum(terms[: k + 1]) for k in row] for row in errors.tolist()]
    assert binomial_p_value(errors, n, p).numpy() == pytest.approx(np.array(expected), rel=1e-9)


def written_out(total, n, limit):
    mean = min(total / n, limit)
    h = 0.0
    if mean > 0:
        h += mean * math.log(mean / limit)
    if mean < 1:
        h += (1 - mean) * math.log((1 - mean) / (1 - limit))
    return min(math.exp(-n * h), math.e * binom.cdf(math.ceil(total), n, limit), 1.0)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 900), share=st.floats(0, 1), limit=st.floats(0.005, 0.9))
def test_hoeffding_bentkus_is_the_formula(n, share, limit):
    total = round(2 * n * share) / 2  # halves are what AccuracyDifference sums
    ours = hoeffding_bentkus_p_value(torch.tensor(total), n, limit)
    assert float(ours) == pytest.approx(written_out(total, n, limit), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("limit", [0.02, 0.3])
def test_p_values_are_small_no_more_often_than_they_say(limit):
    """At the edge of the hypothesis, over every outcome with its own probability: no simulation."""
    n = 150
    k = torch.arange(n + 1)
    chance = binom.pmf(k.numpy(), n, limit)
    for p_value in (binomial_p_value, hoeffding_bentkus_p_value):
        values = p_value(k.double(), n, limit).numpy()
        for delta in (0.01, 0.05, 0.1, 0.3):
            assert chance[values <= delta].sum() <= delta + 1e-12


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.99))
def test_fixed_sequence_stops_at_the_first_that_fails(values, delta):
    expected = 0
    for value in values:
        if value > delta:
            break
        expected += 1
    assert int(fixed_sequence(torch.tensor(values, dtype=torch.float64), delta)) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=60), st.floats(0.02, 0.98))
def test_the_bet_is_placed_loss_by_loss(losses, limit):
    """Waudby-Smith and Ramdas, with the shares of Bates et al., as a gambler would play it."""
    wealth = richest = 1.0
    spread, seen = 0.25, []
    for loss in losses:
        wealth *= 1 - min(1.0, math.sqrt(2 * math.log(1 / 0.1) / (len(losses) * spread))) * (loss - limit)
        richest = max(richest, wealth)
        seen.append(loss)
        means = [(0.5 + sum(seen[: k + 1])) / (k + 2) for k in range(len(seen))]
        spread = (0.25 + sum((x - m) ** 2 for x, m in zip(seen, means, strict=True))) / (len(seen) + 1)
    ours = betting_p_value(torch.tensor(losses), limit, 0.1)
    assert float(ours) == pytest.approx(1 / richest, rel=1e-9)


@pytest.mark.parametrize("chances", [(0.03, 0.0, 0.97), (0.1, 0.8, 0.1), (0.0, 0.9, 0.1)])
def test_betting_p_values_are_small_no_more_often_than_they_say(chances):
    """4000 samples of losses 0, 1/2, 1 whose mean is the limit itself."""
    drawn = np.random.default_rng(0).choice([0.0, 0.5, 1.0], size=(4_000, 200), p=chances)
    limit = 0.5 * chances[1] + chances[2]
    for delta in (0.05, 0.1, 0.3):
        rejected = float((betting_p_value(torch.from_numpy(drawn), limit, delta) <= delta).double().mean())
        assert rejected <= delta + 3 * math.sqrt(delta * (1 - delta) / 4_000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=9), st.floats(0.01, 0.5))
def test_holm_is_the_closed_test_of_bonferroni(values, delta):
    """A hypothesis is rejected if every set that holds it has a p-value of at most delta over the set's size."""
    count = range(len(values))
    sets = [[i for i in count if bits >> i & 1] for bits in range(1, 2 ** len(values))]
    kept = [one for one in sets if min(values[i] for i in one) > delta / len(one)]
    expected = [not any(i in one for one in kept) for i in count]
    assert holm(torch.tensor(values, dtype=torch.float64), delta).tolist() == expected


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_smallest_split(limit, delta):
    n = smallest_binomial_split(limit, delta)
    assert binom.cdf(0, n, limit) <= delta * (1 + 1e-9)
    assert n == 1 or binom.cdf(0, n - 1, limit) > delta * (1 - 1e-9)


def test_the_figures_of_the_guide():
    assert binom.cdf(13, 2000, 0.01) <= 0.1 < binom.cdf(14, 2000, 0.01)
    for epsilon, least, most in ((0.05, 1_000, 2_000), (0.01, 20_000, 50_000)):
        assert least < RISKS["difference"].smallest_split(epsilon, 0.1) < most
    assert RISKS["difference"].smallest_betting_split(0.01, 0.1) == 470


def test_smallest_splits_by_name():
    assert RISKS["mistakes"].smallest_split(0.01, 0.1) == 230  # ln 0.1 / ln 0.99 = 229.1
    assert RISKS["disagreement"].smallest_split(0.05, 0.05) == 59  # a textbook's "59 without a fault"
    n = RISKS["difference"].smallest_split(0.1, 0.1)
    assert n % 2 == 0
    assert written_out(n / 2, n, 0.55) <= 0.1 < written_out((n - 2) / 2, n - 2, 0.55)
