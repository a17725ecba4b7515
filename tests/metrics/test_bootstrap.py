"""Intervals and paired tests, against SciPy, scikit-learn and the metrics themselves."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from mebert.errors import UserError
from mebert.metrics.bootstrap import bootstrap_intervals, bootstrap_values, mcnemar, paired_bootstrap, percentiles
from mebert.metrics.formulas import LABEL_METRICS
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import METRIC_NAMES, metric_value
from mebert.metrics.weighted import weighted_metric
from mebert.models.heads import per_label

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
    if name in LABEL_METRICS:
        logits, labels = per_label(logits), torch.randint(2, (60, classes))
    units, weighted = weighted_metric(name, logits, labels, queries)
    assert weighted(np.ones((1, units)))[0] == pytest.approx(metric_value(name, logits, labels, queries), abs=1e-6)
    rows_of = list(torch.arange(60).unsqueeze(1))
    if name in RANKING_METRICS:  # whole questions, those with a relevant row
        rows_of = [(queries == q).nonzero().squeeze(1) for q in range(12)]
        rows_of = [rows for rows in rows_of if (labels[rows] > 0).any()]
    assert units == len(rows_of)
    for _ in range(20):
        drawn = torch.randint(units, (units,))
        rows = torch.cat([rows_of[unit] for unit in drawn])
        again = torch.arange(units).repeat_interleave(torch.tensor([len(rows_of[unit]) for unit in drawn]))
        found = weighted(np.bincount(drawn, minlength=units)[None].astype(float))[0]
        assert found == pytest.approx(metric_value(name, logits[rows], labels[rows], again), abs=1e-5)


def test_the_interval_of_accuracy_is_that_of_scipy():
    logits, labels, _ = made(2, rows=200)
    right = (logits.argmax(-1) == labels).double().numpy()
    (ours,) = bootstrap_intervals("acc", [logits], labels, rounds=20000)
    theirs = scipy.stats.bootstrap(
        (right,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_chunks_of_resamples_are_the_whole(monkeypatch):
    _, weighted = weighted_metric("f1", *made(3)[:2])
    whole = bootstrap_values([weighted], 60, rounds=50)
    monkeypatch.setattr("mebert.metrics.bootstrap.CHUNK", 200)
    assert bootstrap_values([weighted], 60, rounds=50) == pytest.approx(whole)


def test_questions_are_drawn_whole():
    """Four rows of one question are correct or not together: the interval is that of 30 units, not of 120."""
    torch.manual_seed(0)
    good = torch.rand(30) < 0.5
    queries = torch.arange(30).repeat_interleave(4)
    labels = torch.tensor([1, 0, 0, 0]).repeat(30)
    scores = torch.where(good.repeat_interleave(4), labels, 1 - labels).float()
    logits = torch.stack([-scores, scores], 1)
    (interval,) = bootstrap_intervals("p_at_1", [logits], labels, queries)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 30), rel=0.15)
    with pytest.raises(UserError, match="query_column"):
        bootstrap_intervals("map", [logits], labels)


def test_no_interval_without_a_value():
    assert percentiles(np.full(5, np.nan)) is None
    assert bootstrap_intervals("pearson", [torch.ones(9, 1)], torch.arange(9.0)) == [None]
    none = torch.zeros(4).long()
    assert bootstrap_intervals("mrr", [torch.randn(4, 2)], none, none) == [None], "no question has a relevant row"
    assert bootstrap_intervals("acc", [torch.zeros(0, 2)], none[:0]) == [None]


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 0), (3, 9), (20_100, 19_900)])
def test_mcnemar_is_the_binomial_test(first, second):
    a = torch.tensor([True] * first + [False] * second + [True, False])
    b = torch.tensor([False] * first + [True] * second + [True, False])
    found = mcnemar(a, b)
    assert (found.only_first, found.only_second) == (first, second)
    expected = 2 * scipy.stats.binom.cdf(min(first, second), first + second, 0.5)
    assert found.p_value == pytest.approx(min(1.0, expected), rel=1e-9)


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
