"""Intervals and paired tests, against SciPy, loops and the metrics themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import matthews_corrcoef

from mebert.errors import UserError
from mebert.metrics.bootstrap import (
    agreement,
    bootstrap_interval,
    bootstrap_values,
    mcnemar,
    paired_bootstrap,
    percentiles,
    resampled_metric,
)
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import METRIC_NAMES, metric_value

CASES = [(name, classes) for name in METRIC_NAMES for classes in ((1,) if name in ("pearson", "spearman") else (2, 3))]
CASES = [(name, classes) for name, classes in CASES if name not in RANKING_METRICS or classes < 3]


def made(classes, rows=60, seed=0):
    torch.manual_seed(seed)
    logits = torch.randn(rows, classes)
    labels = (logits[:, 0] + torch.randn(rows)).round() if classes == 1 else torch.randint(0, classes, (rows,))
    return logits, labels, torch.randint(-1, 12, (rows,))


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_a_weighted_metric_is_the_metric_of_the_repeated_rows(name, classes):
    logits, labels, queries = made(classes)
    units, weighted = resampled_metric(name, logits, labels, queries)
    assert weighted(np.ones((1, units)))[0] == pytest.approx(metric_value(name, logits, labels, queries), abs=1e-6)
    if name in RANKING_METRICS:  # the loop below draws every question, this one those that can be ranked
        kept = torch.tensor([bool((labels[queries == q] > 0).any()) and q >= 0 for q in queries])
        logits, labels, queries = logits[kept], labels[kept], queries[kept]
    else:
        queries = None
    fast = bootstrap_values([resampled_metric(name, logits, labels, queries)[1]], units, rounds=30, seed=5)
    slow_units, slow = resampled_metric(lambda x, y, q: metric_value(name, x, y, q), logits, labels, queries)
    assert slow_units == units
    assert bootstrap_values([slow], units, rounds=30, seed=5) == pytest.approx(fast, abs=1e-5)


@pytest.mark.parametrize("predicted", [[0, 0, 0], [1, 1, 1], [0, 1, 0]])
@pytest.mark.parametrize("gold", [[0, 0, 0], [1, 1, 1], [1, 0, 1]])
def test_degenerate_resamples(predicted, gold):
    logits, labels = torch.eye(2)[predicted], torch.tensor(gold)
    values = {name: resampled_metric(name, logits, labels)[1](np.ones((1, 3)))[0] for name in ("f1", "matthews")}
    assert values["f1"] == pytest.approx(metric_value("f1", logits, labels))
    extreme = predicted == gold or all(p != g for p, g in zip(predicted, gold, strict=True))
    # Of answers that are all the same torchmetrics says a little more or less than scikit-learn's 0.
    expected = metric_value("matthews", logits, labels) if extreme else matthews_corrcoef(gold, predicted)
    assert values["matthews"] == pytest.approx(expected)


def test_the_interval_of_accuracy_is_that_of_scipy():
    logits, labels, _ = made(2, rows=200)
    right = (logits.argmax(-1) == labels).double().numpy()
    ours = bootstrap_interval("acc", logits, labels, rounds=20000)
    theirs = scipy.stats.bootstrap(
        (right,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


@pytest.mark.parametrize(("name", "classes"), [("acc", 3), ("f1", 2), ("f1", 3), ("matthews", 2), ("matthews", 3)])
def test_drawing_pairs_of_label_and_prediction_is_drawing_rows(name, classes):
    logits, labels, _ = made(classes, rows=150)
    logits = logits + torch.nn.functional.one_hot(labels, classes)
    pairs = bootstrap_interval(name, logits, labels, rounds=20000)
    units, weighted = resampled_metric(name, logits, labels)
    rows = percentiles(bootstrap_values([weighted], units, rounds=20000)[0])
    assert (pairs.low, pairs.high) == pytest.approx((rows.low, rows.high), abs=0.008)


def test_intervals_cover():
    """Of 95 % intervals for a coin of 0.8 about 95 % hold 0.8."""
    generator = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        right = torch.tensor(generator.random(150) < 0.8).long()
        interval = bootstrap_interval("acc", torch.eye(2)[right], torch.ones(150).long(), rounds=400)
        held += interval.low <= 0.8 <= interval.high
    assert 0.90 <= held / 300 <= 0.98


def test_questions_are_drawn_whole():
    """Ten answers of one question say less than ten questions: the interval by questions is wider."""
    torch.manual_seed(0)
    good = torch.rand(30) < 0.5  # a question is answered well or badly
    queries = torch.arange(30).repeat_interleave(4)
    labels = torch.tensor([1, 0, 0, 0]).repeat(30)
    scores = torch.where(good.repeat_interleave(4), labels, 1 - labels).float()
    logits = torch.stack([-scores, scores], 1)
    interval = bootstrap_interval("p_at_1", logits, labels, queries)
    spread = math.sqrt(0.25 / 30)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    with pytest.raises(UserError, match="queries"):
        bootstrap_interval("map", logits, labels)


def test_no_interval_without_a_value():
    assert percentiles(np.full(5, np.nan)) is None
    assert bootstrap_interval("pearson", torch.ones(9, 1), torch.arange(9.0)) is None
    none = torch.zeros(4).long()
    assert bootstrap_interval("mrr", torch.randn(4, 2), none, none) is None, "no question has a right answer"


@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_the_binomial_test(first, second):
    a = torch.tensor([True] * first + [False] * second + [True, False])
    b = torch.tensor([False] * first + [True] * second + [True, False])
    found = mcnemar(a, b)
    assert (found.only_first, found.only_second) == (first, second)
    expected = scipy.stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_rows():
    rows = torch.arange(40_000)
    found = mcnemar(rows < 20_100, rows >= 20_100)
    assert found.p_value == pytest.approx(scipy.stats.binomtest(20_100, 40_000).pvalue, rel=1e-9)


def test_paired_bootstrap_of_accuracy():
    torch.manual_seed(1)
    labels = torch.zeros(400).long()
    wrong_a, wrong_b = torch.rand(400) < 0.30, torch.rand(400) < 0.18
    a, b = torch.eye(2)[wrong_a.long()], torch.eye(2)[wrong_b.long()]
    found = paired_bootstrap("acc", a, b, labels, rounds=5000)
    each = wrong_a.double() - wrong_b.double()
    assert found.value == pytest.approx(float(each.mean()))
    error = float(each.std()) / math.sqrt(400)
    assert found.interval.low == pytest.approx(found.value - 1.96 * error, abs=0.006)
    assert found.interval.high == pytest.approx(found.value + 1.96 * error, abs=0.006)
    assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(found.value / error), abs=0.01)
    back = paired_bootstrap("acc", b, a, labels, rounds=5000)
    assert back.value == -found.value
    assert back.p_value == found.p_value
    assert paired_bootstrap("acc", a, a, labels).p_value == 1.0


def test_agreement():
    full = torch.eye(3)[[0, 1, 2, 0]]
    assert agreement(torch.eye(3)[[0, 1, 0, 0]], full) == 0.75
