"""MAP, MRR and precision at 1 against torchmetrics, scikit-learn and numbers worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.retrieval import RetrievalMAP, RetrievalMRR, RetrievalPrecision

from mebert.errors import UserError
from mebert.metrics.collected import QuestionRanking, make_metric
from mebert.metrics.curve import ExitRecord
from mebert.metrics.ranking import mean_over_questions, ranking_scores
from mebert.metrics.record_files import record_from_tensors, record_tensors
from mebert.metrics.task import METRIC_NAMES, metric_value
from mebert.policies.temperature import fit_temperatures

NAMES = ("map", "mrr", "p_at_1")
ORACLES = {
    "map": lambda: RetrievalMAP(empty_target_action="skip"),
    "mrr": lambda: RetrievalMRR(empty_target_action="skip"),
    "p_at_1": lambda: RetrievalPrecision(top_k=1, empty_target_action="skip"),
}


def logits_of(scores):
    return torch.stack([torch.zeros(len(scores)), torch.tensor(scores)], 1)


def test_by_hand():
    # question 0, best first: wrong, right, wrong, right -> AP (1/2 + 2/4) / 2 = 1/2, RR 1/2, P@1 0
    # question 1, best first: right, wrong -> 1, 1, 1; the rows of question -1 do not count
    queries = torch.tensor([1, 0, 0, -1, 0, 1, 0, -1])
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0])
    scores = [-1.0, 2.0, 3.0, 9.0, 1.0, 0.5, -4.0, 9.5]
    expected = {"map": 0.75, "mrr": 0.75, "p_at_1": 0.5}
    assert {name: metric_value(name, logits_of(scores), labels, queries) for name in NAMES} == pytest.approx(expected)
    values = torch.tensor(scores).unsqueeze(1)  # the same in a regression, where above 0 is right
    graded = labels.float() * 0.3
    assert {name: metric_value(name, values, graded, queries) for name in NAMES} == pytest.approx(expected)
    assert metric_value("acc", logits_of(scores), labels, queries) == pytest.approx(4 / 8)


rows = st.lists(st.tuples(st.integers(-1, 5), st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(rows, st.sampled_from(NAMES))
def test_equals_torchmetrics_with_ties_lost(rows, name):
    """torchmetrics leaves the order of ties open; there a right answer is put just below the wrong ones."""
    queries, scores, right = map(list, zip(*rows, strict=True))
    ours = float(
        mean_over_questions(name, torch.tensor(scores, dtype=torch.float), torch.tensor(right), torch.tensor(queries))
    )
    ranked = {q for q, _, r in rows if q >= 0 and r}
    if not ranked:
        assert math.isnan(ours)
        return
    oracle, counted = ORACLES[name](), torch.tensor(queries) >= 0
    above_zero = torch.tensor(scores) * 2.0 - torch.tensor(right).float() + 10
    oracle.update(above_zero[counted], torch.tensor(right)[counted], indexes=torch.tensor(queries)[counted])
    assert ours == pytest.approx(float(oracle.compute()), abs=1e-6)


def test_equal_scores_earn_nothing_whatever_the_order_of_the_rows():
    labels, queries = torch.tensor([1, 0, 0, 0, 1]), torch.tensor([0, 0, 0, 1, 1])
    for order in ([0, 1, 2, 3, 4], [4, 2, 3, 0, 1]):
        values = {name: metric_value(name, torch.zeros(5, 2), labels[order], queries[order]) for name in NAMES}
        assert values == pytest.approx({"map": (1 / 3 + 1 / 2) / 2, "mrr": (1 / 3 + 1 / 2) / 2, "p_at_1": 0.0})


def test_confident_predictions_are_told_apart():
    logits = torch.tensor([[0.0, 40.0], [0.0, 60.0]])
    assert logits.softmax(-1)[0, 1] == logits.softmax(-1)[1, 1] == 1.0
    assert ranking_scores(logits).tolist() == [40.0, 60.0]
    assert metric_value("mrr", logits, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64)) == 1.0


def test_the_metric_in_parts_equals_the_whole():
    torch.manual_seed(1)
    queries, scores, right = torch.randint(-1, 6, (50,)), torch.randn(50), torch.rand(50) < 0.4
    metric = make_metric("map", 2)
    for part in torch.arange(50).split(17):
        metric.update(scores[part], right[part], queries[part])
    metric.update(scores[:0], right[:0], queries[:0])
    assert isinstance(metric, QuestionRanking)
    assert float(metric.compute()) == pytest.approx(float(mean_over_questions("map", scores, right, queries)))


def test_mistakes_are_named():
    assert set(NAMES) < set(METRIC_NAMES)
    with pytest.raises(UserError, match=r"'map' needs two classes .* not 3"):
        make_metric("map", 3)
    with pytest.raises(UserError, match="has no queries"):
        metric_value("mrr", torch.zeros(2, 2), torch.tensor([0, 1]))
    assert math.isnan(metric_value("map", torch.zeros(2, 2), torch.tensor([0, 1]), torch.tensor([-1, -1])))


def test_scores_of_exits_on_other_scales_are_ranked_together():
    """A shallow exit that exaggerates hides the right answers of the deep one, until both are on one scale."""
    torch.manual_seed(0)
    labels, queries = torch.tensor([1, 0, 0, 0]).repeat(200), torch.arange(200).repeat_interleave(4)
    score = torch.randn(2, 800) + torch.tensor([[1.0], [3.0]]) * (labels - 0.5)
    logits = torch.stack([-score / 2, score / 2], -1) * torch.tensor([20.0, 1.0]).view(2, 1, 1)
    exits = torch.arange(800) % 2
    record = ExitRecord(logits, labels, torch.arange(800), torch.full((800,), 9), queries=queries)
    mixed = metric_value("map", record.logits_at(exits), labels, queries)
    record.temperatures = fit_temperatures(logits, labels)
    ranked = record.logits_at(exits)
    assert torch.equal(ranked.argmax(-1), logits[exits, torch.arange(800)].argmax(-1)), "no label changes"
    assert metric_value("map", ranked, labels, queries) > mixed + 0.05
    alone = torch.ones_like(exits)
    full = metric_value("map", logits[1], labels, queries)
    assert metric_value("map", record.logits_at(alone), labels, queries) == pytest.approx(full), "one exit alone"
    again = record_from_tensors(record_tensors(record.select(torch.arange(8))))
    assert torch.equal(again.logits_at(exits[:8]), ranked[:8]), "kept in files"
