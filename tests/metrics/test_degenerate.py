"""Every metric, plain, in parts and weighted, at degenerate rows: against scikit-learn, SciPy or its definition.

The rows are few and their values fewer, so that one class predicted or present, constant scores, ties, one row and no
row all occur; some rows have no label (-1).
"""

import math
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mebert.metrics.bootstrap import bootstrap_intervals, ranking_agreement
from mebert.metrics.collected import make_metric, update_metric
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import CLASS_METRICS, VALUE_METRICS, metric_input, metric_value
from mebert.metrics.weighted import weighted_metric
from mebert.policies.temperature import expected_calibration_error

RARE = [(0, 0)] * 198 + [(1, 0)] * 2  # (label, prediction): the common class alone is predicted
CLASSES = {
    "acc": lambda gold, found, _: np.mean(gold == found),
    "f1": lambda gold, found, binary: sk.f1_score(
        gold, found, average="binary" if binary else "macro", zero_division=0.0
    ),
    "matthews": lambda gold, found, _: sk.matthews_corrcoef(gold, found),
}
VALUES = {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr}
close = {"rel": 0, "abs": 1e-6, "nan_ok": True}


def quiet(oracle, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant input, of classes without a sample
        return float(oracle(*arguments))


def everywhere(name, logits, labels, queries=None):
    """The metric of the rows, after testing that every way to compute it gives the same."""
    value = metric_value(name, logits, labels, queries)
    metric = make_metric(name, logits.shape[-1])
    for part in torch.arange(len(labels)).split(3):
        values = metric_input(name, logits[part])
        update_metric(metric, values, labels[part], None if queries is None else queries[part], logits.shape[-1] == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics: compute before update
        assert float(metric.compute()) == pytest.approx(value, **close), "as logged"
    units, weighted = weighted_metric(name, logits, labels, queries)
    found = weighted(np.ones((1, units)))
    assert found[0] == pytest.approx(value, **close), "each row once"
    twice = weighted(np.stack([np.full(units, 2.0), np.full(units, 3.0)]))
    assert twice == pytest.approx(np.full(2, value), **close), "all rows repeated"
    (interval,) = bootstrap_intervals(name, [logits], labels, queries, rounds=20)
    assert interval is None or -1 <= interval.low <= interval.high <= 1
    return value


pairs = st.integers(2, 4).flatmap(
    lambda classes: st.tuples(
        st.just(classes),
        st.lists(st.tuples(st.integers(-1, classes - 1), st.integers(0, classes - 1)), max_size=9),
    )
)


@pytest.mark.parametrize("name", CLASS_METRICS)
@settings(max_examples=80, deadline=None)
@given(pairs)
@example((2, RARE))  # Matthews was 0.696
@example((2, [(0, 0)] * 99 + [(1, 0)]))  # 0.985
@example((3, [(1, 1)] * 4))  # 1
@example((2, []))
def test_metrics_of_classes(name, case):
    classes, rows = case
    labels, predicted = (torch.tensor([row[side] for row in rows], dtype=torch.int64) for side in (0, 1))
    gold, found = (side[labels >= 0].numpy() for side in (labels, predicted))
    expected = quiet(CLASSES[name], gold, found, classes == 2) if len(gold) else math.nan
    assert everywhere(name, torch.eye(classes)[predicted], labels) == pytest.approx(expected, **close)


@pytest.mark.parametrize("name", VALUE_METRICS)
@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), max_size=9), st.sampled_from([1.0, 0.1, 1e-9, 1e7]))
@example([(1, 1)], 0.1)
@example([(1, 0), (1, 1), (1, 2)], 0.1)  # a constant that float32 cannot hold: near 0 in torchmetrics
@example([], 1.0)
def test_correlations(name, rows, scale):
    x, y = (torch.tensor([float(row[side]) for row in rows]) for side in (0, 1))
    x = x * scale
    expected = quiet(lambda a, b: VALUES[name](a, b).statistic, x.numpy(), y.numpy()) if len(rows) > 1 else math.nan
    assert everywhere(name, x.unsqueeze(1), y) == pytest.approx(expected, **close)


def by_definition(name, rows):
    """The mean over questions with a right answer; of equal scores wrong answers come first."""
    values = []
    for question in {q for q, _, label in rows if q >= 0 and label >= 0}:
        answers = sorted((-score, label) for q, score, label in rows if q == question and label >= 0)
        right = [place for place, (_, label) in enumerate(answers, start=1) if label]
        if right:
            precision = [(number + 1) / place for number, place in enumerate(right)]
            of_name = {"map": np.mean(precision), "mrr": 1 / right[0], "p_at_1": float(right[0] == 1)}
            values.append(of_name[name])
    return np.mean(values) if values else math.nan


answers = st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 1), st.integers(-1, 1)), max_size=12)


@pytest.mark.parametrize("name", RANKING_METRICS)
@settings(max_examples=80, deadline=None)
@given(answers)
@example([(0, 0, 1), (0, 0, 0), (0, 0, 0)])  # constant scores
@example([(0, 1, 1)])
@example([])
def test_rankings(name, rows):
    queries, scores, labels = (torch.tensor([row[side] for row in rows], dtype=torch.int64) for side in range(3))
    logits = torch.stack([torch.zeros(len(rows)), scores.float()], 1)
    assert everywhere(name, logits, labels, queries) == pytest.approx(by_definition(name, rows), **close)


@settings(max_examples=80, deadline=None)
@given(pairs, st.sampled_from([0.0, 0.3, 60.0]))
@example((2, []), 1.0)
def test_calibration_error(case, scale):
    classes, rows = case
    labels, predicted = (torch.tensor([row[side] for row in rows], dtype=torch.int64) for side in (0, 1))
    logits = scale * torch.eye(classes)[predicted] * torch.linspace(0.1, 1, len(rows)).unsqueeze(1)
    known = [n for n in range(len(rows)) if labels[n] >= 0]
    bins = [[] for _ in range(15)]
    for n in known:
        confidence, guess = logits[n].softmax(-1).max(-1)
        bins[min(14, int(15 * float(confidence)))].append((float(confidence), float(guess == labels[n])))
    apart = [abs(sum(c for c, _ in one) - sum(right for _, right in one)) for one in bins]
    expected = sum(apart) / len(known) if known else math.nan
    assert expected_calibration_error(logits[None], labels).tolist() == [
        pytest.approx(expected, rel=0, abs=1e-4, nan_ok=True)
    ]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-2, 2), st.integers(-2, 2)), max_size=12))
@example([(0, 1, 1), (0, 0, 0), (0, -1, -2)])
@example([(-1, 0, 0)])
def test_agreement_of_rankings(rows):
    """Per question, the share of pairs in the same order; where nothing is tied, (1 + Kendall's tau) / 2."""
    values = []
    for question in {q for q, _, _ in rows if q >= 0}:
        of_question = [(early, full) for q, early, full in rows if q == question]
        both = [(a, b) for n, a in enumerate(of_question) for b in of_question[:n]]
        same = [1 - abs(np.sign(a[0] - b[0]) - np.sign(a[1] - b[1])) / 2 for a, b in both]
        if both:
            values.append(np.mean(same))
            early, full = zip(*of_question, strict=True)
            if len(set(early)) == len(set(full)) == len(early):
                assert values[-1] == pytest.approx((1 + scipy.stats.kendalltau(early, full).statistic) / 2)
    queries, *sides = (torch.tensor([row[side] for row in rows], dtype=torch.int64) for side in range(3))
    early, full = (torch.stack([torch.zeros(len(rows)), side.float()], 1) for side in sides)
    found = ranking_agreement(early, full, queries)
    assert found == pytest.approx(np.mean(values)) if values else found is None
