"""EarlyExitReranker: the ranking of the full depth, and no document of the best k lost where the bounds hold."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import VOCABULARY, tiny_model, words_tokenizer

from mebert import EarlyExitClassifier, EarlyExitReranker, UserError
from mebert.inference import ShrinkEngine
from mebert.policies.top_k import COVERAGES, TopK, final_score_bounds

WORDS = [f"w{i}" for i in range(VOCABULARY - 5)]
QUERY = "w1 w2"


def documents_of(count, seed=0):
    """Distinct texts, so that no two scores are equal up to rounding."""
    generator, found = np.random.default_rng(seed), {}
    while len(found) < count:
        found[" ".join(generator.choice(WORDS, size=generator.integers(1, 12)))] = None
    return list(found)


def reranker_of(num_labels=2):
    """A model whose exits have the same head, so that their scores are close, and its reranker."""
    model = tiny_model(pooling="mean", num_labels=num_labels)
    for index in range(2):
        model.exit(index).load_state_dict(model.exit(2).state_dict())
    model.exit_temperatures = (1.1, 0.9, 1.0) if num_labels > 1 else ()
    return model, EarlyExitReranker(EarlyExitClassifier(model, words_tokenizer(), device="cpu", precision="float32"))


def brute_force(model, documents):
    """The ranking score of every exit, (E, N), by the plain model, one pair at a time."""
    columns = []
    for document in documents:
        inputs = words_tokenizer()(QUERY, document, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[:, 0].double()
        scores = logits[:, 0] if model.num_labels == 1 else logits[:, 1] - logits[:, 0]
        columns.append(scores / torch.tensor(model.exit_temperatures or [1.0] * 3, dtype=torch.float64))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("num_labels", [1, 2])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_without_the_rule_it_is_the_ranking_of_the_full_depth(num_labels, batch_size):
    model, reranker = reranker_of(num_labels)
    documents = documents_of(30)
    last = brute_force(model, documents)[-1]
    order = last.argsort(descending=True)
    shown = last if num_labels == 1 else last.sigmoid()
    for k in (None, 1, 3, 40):
        found = reranker.rank(QUERY, documents, k, return_documents=True, coverage=1, batch_size=batch_size)
        assert [one["corpus_id"] for one in found] == order[:k].tolist()
        assert [one["score"] for one in found] == pytest.approx(shown[order[:k]].tolist(), abs=1e-5)
        assert all(one["text"] == documents[one["corpus_id"]] for one in found)
        assert set(reranker.run(QUERY, documents, k, coverage=1).exits.tolist()) == {2}
    assert reranker.rank(QUERY, [], 3, coverage=1) == []
    assert set(reranker.rank(QUERY, documents[:1])[0]) == {"corpus_id", "score"}


@pytest.mark.parametrize("num_labels", [1, 2])
@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_best_are_those_of_the_full_depth_where_bounds_are_exact(num_labels, batch_size):
    model, reranker = reranker_of(num_labels)
    documents = documents_of(60)
    scores = brute_force(model, documents)
    change = scores[-1] - scores[:-1]
    exact = zip((change.amin(1) - 1e-5).tolist(), (change.amax(1) + 1e-5).tolist(), strict=True)
    reranker.bounds = {0.95: tuple(exact)}
    early = []
    for k in (1, 3, 10, 59, 60):
        best = scores[-1].topk(k).indices.tolist()
        found = reranker.rank(QUERY, documents, k, batch_size=batch_size)
        assert [one["corpus_id"] for one in found] == best
        done = reranker.run(QUERY, documents, k, batch_size=batch_size)
        assert sorted(done.rows.tolist()) == list(range(60))
        early.append(int((done.exits < 2).sum()))
    assert early == sorted(early, reverse=True), "the fewer are asked for, the more leave early"
    assert early[0] > 10
    assert early[-1] == 0


@dataclass
class State:
    hidden: torch.Tensor


class Recorded:
    """Gives recorded logits (E, N, 1) of the rows that `input_ids` name, as a model would."""

    def __init__(self, logits):
        self.logits, self.num_exits, self.num_labels = logits, len(logits), 1

    def start(self, input_ids, attention_mask):
        return State(input_ids[:, 0])

    def keep(self, state, places):
        return State(state.hidden[places])

    def step(self, state, exit_index):
        return state, self.logits[exit_index, state.hidden], None


def left_at(scores, bounds, k, size):
    """The exit (N,) at which each document of scores (E, N) left, in batches of this size."""
    model, rule = Recorded(scores.unsqueeze(-1)), TopK(k, bounds, lambda logits, _: logits[:, 0])
    exits = torch.zeros(scores.shape[1], dtype=torch.long)
    for rows in torch.arange(scores.shape[1]).split(size):
        inputs = {"input_ids": rows.unsqueeze(1), "attention_mask": torch.ones(len(rows), 1)}
        found = ShrinkEngine(model, rule).feed(inputs, rows)
        exits[found.rows] = found.exits
        rule.finish(found.logits[found.exits == len(scores) - 1, 0])
    return exits


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_document_that_leaves_is_never_one_of_the_best(data):
    exits, count = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    whole = st.integers(-6, 6)  # ties are frequent
    scores = torch.tensor(
        data.draw(st.lists(st.lists(whole, min_size=count, max_size=count), min_size=exits, max_size=exits))
    )
    scores = scores.float()
    change, slack = scores[-1] - scores[:-1], data.draw(st.integers(0, 2))
    holding = tuple((float(c.min()) - slack, float(c.max()) + slack) for c in change)
    k, size = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 13))
    at = left_at(scores, holding, k, size)
    last = scores[-1]
    for row in (at < exits - 1).nonzero().flatten().tolist():
        assert int((last > last[row]).sum()) >= k
    # With bounds that do not hold there are still k documents with the score of the last exit.
    low = [data.draw(whole) for _ in change]
    wrong = tuple((float(a), float(a + data.draw(st.integers(0, 3)))) for a in low)
    assert int((left_at(scores, wrong, k, size) == exits - 1).sum()) >= min(k, count)


def test_bounds_are_order_statistics_that_cover_new_documents():
    torch.manual_seed(0)
    logits = torch.randn(3, 999, 2) * torch.tensor([3.0, 2.0, 1.0]).view(3, 1, 1)
    temperatures = (2.0, 1.0, 0.5)
    found = final_score_bounds(logits, temperatures)
    assert tuple(found) == COVERAGES
    scores = (logits[..., 1] - logits[..., 0]) / torch.tensor(temperatures).unsqueeze(1)
    for coverage, bounds in found.items():
        for (low, high), at_exit in zip(bounds, scores, strict=False):
            change = scores[-1] - at_exit
            inside = int(((change >= low - 1e-6) & (change <= high + 1e-6)).sum())
            assert inside == 999 - 2 * (math.floor(1000 * (1 - coverage) / 2 + 1e-9) - 1)
    assert tuple(final_score_bounds(logits[:, :39])) == (0.8, 0.9, 0.95)
    assert final_score_bounds(logits[:, :8]) == {}
    # A document like the recorded ones is within with at least the coverage, whatever the number of records.
    draws = torch.randn(4000, 40)
    outside = [not low <= float(new) <= high for *_, new, low, high in map(_one_draw, draws)]
    assert np.mean(outside) <= 0.05 + 0.01


def _one_draw(values):
    """A new change, and the bounds at 0.95 of the 39 changes before it."""
    logits = torch.stack([torch.zeros(39), values[:39]]).unsqueeze(-1)
    return values[39], *final_score_bounds(logits)[0.95][0]


def test_bounds_are_learned_without_labels():
    model, reranker = reranker_of()
    documents = documents_of(200, seed=1)
    with pytest.warns(UserWarning, match="has no bounds on scores: all documents run through all layers; find them"):
        assert set(reranker.run(QUERY, documents, 1).exits.tolist()) == {2}
    reranker.learn_bounds([(QUERY, documents[:90]), (QUERY, documents[90:]), (QUERY, [])], batch_size=16)
    plain = final_score_bounds(brute_force(model, documents).unsqueeze(-1).float())
    for coverage, bounds in plain.items():
        assert np.asarray(reranker.bounds[coverage]) == pytest.approx(np.asarray(bounds), abs=1e-5)
    new = documents_of(100, seed=2)
    spent = [int(reranker.run(QUERY, new, 3, coverage=one).exits.sum()) for one in (*COVERAGES, 1)]
    assert spent == sorted(spent)
    assert spent[0] < spent[-1]
    with pytest.raises(UserError, match="learn_bounds got 5 documents, too few for bounds; give 39 or more"):
        reranker.learn_bounds([(QUERY, documents[:5])])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"coverage": 0.7}, "coverage 0.7 has no bounds; choose one of: 0.95, 1 (all layers)"),
        ({"coverage": 2}, "coverage must be in [0, 1], got 2"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_k": "3"}, "top_k must be a whole number, got '3'"),
        ({"batch_size": 0}, "batch_size must be in [1, 2147483647], got 0"),
        ({"documents": "w1"}, "documents must be a list of texts, got 'w1'"),
        ({"documents": ["w1", None]}, "documents[1] must be a text, got None"),
        ({"query": 3}, "query must be a text, got 3"),
    ],
)
def test_mistakes_are_named(given, text):
    reranker = reranker_of()[1]
    reranker.bounds = {0.95: ((-1.0, 1.0),) * 2}
    with pytest.raises(UserError) as caught:
        reranker.rank(**{"query": QUERY, "documents": documents_of(4), "top_k": 2, **given})
    assert str(caught.value) == text


def test_three_labels_are_refused():
    with pytest.raises(
        UserError, match=r"a reranker needs two labels.* or a regression; the model has LABEL_0, LABEL_1, L"
    ):
        reranker_of(num_labels=3)
