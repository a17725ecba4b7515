"""Thresholds by trying them all; the promise by simulation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from records import random_record
from scipy.stats import binom
from sklearn.metrics import accuracy_score

from mebert.calibration import RISKS, guaranteed_threshold, threshold_for_cost, threshold_for_drop, threshold_grid
from mebert.calibration.bounds import fixed_sequence
from mebert.calibration.choose import losses_at
from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord, replay


def all_thresholds(scores):
    return [0.0, *sorted(set(torch.nextafter(scores, torch.ones_like(scores)).flatten().tolist()))]


def accuracy_of(record):
    return lambda exits: accuracy_score(record.labels, record.logits_at(exits).argmax(-1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 9.0))
def test_a_budget_takes_the_strictest_threshold_within_it(seed, most):
    record = random_record(20, seed=seed)
    scores = record.scores["max_prob"]
    costs = (torch.rand(4, 20, generator=torch.Generator().manual_seed(seed)) + 0.5).double().cumsum(0)
    mean = {t: float(costs[replay(scores, t), torch.arange(20)].mean()) for t in all_thresholds(scores)}
    within = [t for t, cost in mean.items() if cost <= most]
    found = threshold_for_cost(scores, costs, most)
    if not within:
        assert found is None
    else:
        assert torch.equal(replay(scores, found), replay(scores, min(within)))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.05, 0.1, 0.3]))
def test_a_drop_takes_the_fastest_threshold_within_it(seed, drop):
    record = random_record(20, seed=seed)
    scores, accuracy = record.scores["max_prob"], accuracy_of(record)
    full = accuracy(torch.full((20,), 3))
    within = [t for t in all_thresholds(scores[:-1]) if full - accuracy(replay(scores, t)) <= drop + 1e-6]
    found = threshold_for_drop(scores, accuracy, drop)
    assert torch.equal(replay(scores, found), replay(scores, max(within)))
    nearest = (scores[:-1].double() - found).abs().min()
    assert found == 0 or nearest > 1e-7, "a score that rounds otherwise in another batch leaves all the same"
    few = threshold_for_drop(scores, accuracy, drop, most_candidates=7)
    assert full - accuracy(replay(scores, few)) <= drop + 1e-9


def test_scores_that_never_leave():
    record = random_record(10)
    never = torch.full((4, 10), float("inf"))
    assert threshold_for_drop(never, accuracy_of(record), 0.5) == 0.0
    assert threshold_for_cost(never, torch.ones(4, 10).cumsum(0), 3.9) is None
    assert threshold_for_cost(never, torch.ones(4, 10).cumsum(0), 4.0) == 0.0


def test_losses_by_hand():
    labels, full = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 2])
    early = torch.tensor([1, 0, 1, 0])  # newly wrong, put right, right both times, wrong both times
    expected = {"mistakes": [1, 0, 0, 0], "disagreement": [1, 1, 0, 1], "difference": [1, 0, 0.5, 0.5]}
    assert {name: risk.losses(early, full, labels).tolist() for name, risk in RISKS.items()} == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_every_risk_is_at_least_the_loss_of_accuracy(seed):
    record = random_record(40, seed=seed)
    full, accuracy = torch.full((40,), 3), accuracy_of(record)
    for risk in RISKS.values():
        for threshold in (0.1, 0.4, 0.8):
            exits = replay(record.scores["max_prob"], threshold)
            losses = losses_at(record, record.scores["max_prob"], threshold, risk)
            lost = accuracy(full) - accuracy(exits)
            measured = risk.measured(float(losses.mean()))
            assert measured >= lost - 1e-9
            if risk.name == "difference":
                assert measured == pytest.approx(lost)


def test_the_grid_is_fixed_and_a_threshold_everywhere():
    grid = threshold_grid()
    assert torch.equal(grid, threshold_grid())
    assert (grid.diff() > 0).all()
    assert 0 < grid[0] < 2e-6
    assert grid[-1] == 1
    inner = grid[:-1]
    assert (inner.diff() <= 0.0063).all()


@pytest.mark.parametrize("name", RISKS)
def test_the_threshold_is_what_a_loop_finds(name):
    record, risk = random_record(3000, seed=5), RISKS[name]
    scores, epsilon, delta = record.scores["max_prob"], 0.1, 0.1
    chosen = 0.0
    for threshold in threshold_grid().tolist():
        early = record.logits_at(replay(scores, threshold)).argmax(-1)
        total = float(risk.losses(early, record.logits[-1].argmax(-1), record.labels).sum())
        if name == "difference":
            fails = float(risk.p_value(torch.tensor(total), 3000, epsilon)) > delta
        else:
            fails = binom.cdf(total, 3000, epsilon) > delta
        if fails:
            break
        chosen = threshold
    found = guaranteed_threshold(record, scores, epsilon, delta, risk)
    assert found.threshold == pytest.approx(chosen)
    assert 0 < found.threshold < 1
    assert found.measured < epsilon
    assert (found.loss, found.samples) == (name, 3000)


@pytest.mark.parametrize("correction", ["fixed_sequence", "holm"])
def test_a_bet_bounds_the_difference_on_far_fewer_rows(correction):
    record, risk = random_record(1500, seed=5), RISKS["difference"]
    scores = record.scores["max_prob"]
    path = {"path": threshold_grid().tolist()[::10]}
    how = {"p_value": "wsr", "correction": correction, **path}
    found = guaranteed_threshold(record, scores, 0.05, 0.1, risk, **how)
    usual = guaranteed_threshold(record, scores, 0.05, 0.1, risk, **path).threshold
    assert found.threshold > usual or (correction == "holm" and found.threshold == usual)
    assert found.measured < 0.05
    assert (found.p_value, found.correction) == ("wsr", correction)
    with pytest.raises(UserError, match=r"60 samples are too few .* it takes 95"):
        guaranteed_threshold(record.select(torch.arange(60)), scores[:, :60], 0.05, 0.1, risk, **how)


def test_holm_goes_past_a_threshold_that_fails():
    """A first exit that is sure of its mistakes, and a second that makes none."""
    record = random_record(2_000, seed=2)
    record.logits[:] = torch.nn.functional.one_hot(record.labels, 3) * 4.0
    wrong = torch.arange(2_000) < 60
    record.logits[0, wrong] = -record.logits[0, wrong]
    scores = torch.where(wrong, 0.01, 0.3).repeat(4, 1)
    path = [*[0.02] * 20, (0.0, 0.4, 0.4)]  # of which Holm tests the first and the last
    found = {
        name: guaranteed_threshold(record, scores, 0.02, 0.1, correction=name, path=path).threshold
        for name in ("fixed_sequence", "holm")
    }
    assert found == {"fixed_sequence": 0.0, "holm": (0.0, 0.4, 0.4)}


def test_a_small_split_is_refused_and_says_what_it_takes():
    record = random_record(229)
    with pytest.raises(UserError, match=r"229 samples are too few .*epsilon 0.01 .*delta 0.1.*it takes 230"):
        guaranteed_threshold(record, record.scores["max_prob"], 0.01, 0.1)
    guaranteed_threshold(random_record(230), random_record(230).scores["max_prob"], 0.01, 0.1)
    for settings_ in ({"epsilon": 0.0, "delta": 0.1}, {"epsilon": 0.1, "delta": 1.0}):
        with pytest.raises(UserError, match=r"must be in \(0, 1\)"):
            guaranteed_threshold(record, record.scores["max_prob"], **settings_)
    values = ExitRecord(torch.randn(4, 300, 1), torch.randn(300), torch.arange(300), torch.ones(300))
    with pytest.raises(UserError, match="this is a regression"):
        guaranteed_threshold(values, torch.rand(4, 300), 0.1, 0.1)


def test_answers_to_common_questions_are_no_independent_rows():
    record = replace(random_record(300), queries=torch.arange(300) // 10)
    with pytest.raises(UserError, match="candidates of common queries; use max_drop"):
        guaranteed_threshold(record, record.scores["max_prob"], 0.1, 0.1)


def test_nothing_to_promise_means_the_full_model():
    record = random_record(400)
    record.logits[:-1] = -record.logits[-1:]  # every earlier exit is wrong wherever the last is right
    scores = torch.full((4, 400), 1e-7)  # and as sure as can be
    found = guaranteed_threshold(record, scores, 0.05, 0.1)
    assert (found.threshold, found.measured) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "samples", "epsilon", "delta"),
    [
        ("mistakes", 500, 0.03, 0.1),
        ("disagreement", 500, 0.1, 0.1),
        pytest.param("difference", 2000, 0.08, 0.2, marks=pytest.mark.slow),
    ],
)
def test_the_promise_is_kept(name, samples, epsilon, delta):
    """1000 splits drawn from a population whose risk is known: broken no more often than delta."""
    population, draws, risk = random_record(5_000, seed=1), 1_000, RISKS[name]
    scores, grid = population.scores["max_prob"], threshold_grid().tolist()
    losses = torch.stack([losses_at(population, scores, t, risk).float() for t in grid], dim=1)  # (N, G)
    true = np.array([risk.measured(float(value)) for value in losses.mean(0, dtype=torch.float64)])
    assert true.max() > epsilon, "a threshold that breaks the promise is there to be chosen"
    generator = np.random.default_rng(0)
    counts = generator.multinomial(samples, np.full(5_000, 1 / 5_000), size=draws)
    totals = torch.from_numpy(counts).float() @ losses  # halves below 2^24: exact
    passed = fixed_sequence(risk.p_value(totals, samples, epsilon), delta).numpy()
    broken = int((true[passed - 1][passed > 0] > epsilon).sum())
    assert broken <= delta * draws
    # The test has teeth: the largest threshold whose measured loss is within epsilon breaks it too often.
    within = np.array([[risk.measured(float(v)) for v in row] for row in (totals / samples)[:60].double()]) <= epsilon
    naive = np.array([true[np.flatnonzero(row)[-1]] for row in within])
    assert (naive > epsilon).mean() > 1.5 * delta
    # What a user calls gives the same threshold on the same samples.
    rows = np.repeat(np.arange(5_000), counts[0])
    drawn = ExitRecord(population.logits[:, rows], population.labels[rows], torch.arange(samples), torch.ones(samples))
    found = guaranteed_threshold(drawn, scores[:, rows], epsilon, delta, risk)
    expected = grid[passed[0] - 1] if passed[0] else 0.0
    assert found.threshold == expected


@pytest.mark.parametrize("loss", RISKS)
def test_rows_without_a_label_prove_nothing(loss):
    """300 more rows of label -1 must not make a threshold look safer; a risk that needs no labels may use them."""
    record = random_record(600, seed=3)
    scores = record.scores["max_prob"]
    hidden = replace(record, labels=torch.where(torch.arange(600) < 300, record.labels, -1))
    found = guaranteed_threshold(hidden, scores, 0.3, 0.1, RISKS[loss])
    if loss == "disagreement":
        assert found == guaranteed_threshold(record, scores, 0.3, 0.1, RISKS[loss])
        return
    first = torch.arange(300)
    assert found == guaranteed_threshold(record.select(first), scores[:, :300], 0.3, 0.1, RISKS[loss])
    assert found.samples == 300
    few = replace(record, labels=torch.where(torch.arange(600) < 20, record.labels, -1))
    with pytest.raises(UserError, match="20 labelled samples are too few"):
        guaranteed_threshold(few, scores, 0.05, 0.1, RISKS[loss])
