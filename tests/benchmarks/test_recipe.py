"""The search for a recipe: thresholds of each exit's own, paired comparisons, and the start for shallow exits."""

import math
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from modules.recipes import labelled, make
from torch.nn import functional as F

from mebert.metrics.at_speed import bracket_speedup
from mebert.metrics.curve import ExitRecord
from mebert.models import model_inputs
from mebert.modules import MultiExitModule

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
rules = pytest.importorskip("recipe_rules")
paired = pytest.importorskip("recipe_paired")
recipe_heads = pytest.importorskip("recipe_heads")
recipe_start = pytest.importorskip("recipe_start")


def value(scores, correct, price, thresholds):
    """The goal by a loop over rows."""
    total = 0.0
    for row in range(scores.shape[1]):
        exits = len(thresholds)
        taken = next((e for e in range(exits - 1) if float(scores[e, row]) < thresholds[e]), exits - 1)
        total += float(correct[taken, row]) - price * (taken + 1) / exits
    return total / scores.shape[1]


@pytest.mark.parametrize("seed", range(6))
def test_no_other_threshold_of_one_exit_is_better(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 6, (3, 12), generator=generator) / 6  # with equal scores
    correct = torch.rand(3, 12, generator=generator) < torch.tensor([[0.5], [0.6], [0.8]])
    price, tried = float(torch.rand((), generator=generator)), [-1.0, *((step + 0.5) / 6 for step in range(6))]
    found = rules.fit_thresholds(scores, correct, (1, 2, 3), price).tolist()
    best = value(scores, correct, price, found)
    for index, threshold in product(range(2), tried):
        other = [*found[:index], threshold, *found[index + 1 :]]
        assert value(scores, correct, price, other) <= best + 1e-12
    pair = rules.fit_thresholds(scores[1:], correct[1:], (1, 2), price).tolist()
    every = [value(scores[1:], correct[1:], price, [threshold, 9.0]) for threshold in tried]
    assert value(scores[1:], correct[1:], price, pair) == pytest.approx(max(every))  # of two exits: the best of all


def test_the_accuracy_at_a_cost_lies_between_its_neighbours():
    points = [(1.0, 0.9), (0.75, 0.88), (0.25, 0.5)]
    assert [rules.at_cost(points, cost) for cost in (1.0, 0.5, 0.25)] == pytest.approx([0.9, 0.69, 0.5])


def test_rows_at_a_speed_are_those_of_the_two_nearest_thresholds():
    """Also where equal scores leave no exact threshold."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 200, 2, generator=generator)
    scores = torch.randint(0, 4, (3, 200), generator=generator) / 4
    labels = torch.randint(0, 2, (200,), generator=generator)
    record = ExitRecord(logits, labels, torch.arange(200), torch.full((200,), 9), {"rule": scores})
    for speed in (1.2, 1.5, 2.0, 2.5):
        rows = rules.right_at(record, "rule", [1, 2, 3], speed)
        fast, slow, share = bracket_speedup(scores, [1, 2, 3], speed)
        layers = (1 + fast).double() * (1 - share) + (1 + slow).double() * share
        assert 3 / float(layers.mean()) == pytest.approx(speed)
        right = [(record.logits_at(exits).argmax(-1) == labels).double().mean() for exits in (fast, slow)]
        assert float(rows.mean()) == pytest.approx(float(right[0] + share * (right[1] - right[0])))
    with pytest.raises(ValueError, match="4x"):
        rules.right_at(record, "rule", [1, 2, 3], 4.0)


def cell(task, seed, rows, arm="joint"):
    """A result of one exit."""
    right = {"last": paired.pack(rows)}
    return {"task": task, "seed": seed, "arm": arm, "rules": {}, "exits": [float(np.mean(rows))], "right": right}


def test_pairs_are_compared_row_by_row_task_by_task():
    generator = np.random.default_rng(0)
    first, second = (generator.random((2, 300)) < share for share in (0.8, 0.7))
    pairs = [(cell(f"task {i}", 1, first[i]), cell(f"task {i}", 1, second[i])) for i in range(2)]
    found = paired.against(pairs, 2.0)
    assert found.mean == pytest.approx(first.mean() - second.mean())
    exact = [float(d) for d in (first.astype(float) - second).mean(1)]
    assert list(found.differences.values()) == pytest.approx(exact)
    # The normal interval of a mean of two tasks' means.
    error = math.sqrt(sum((first[i].astype(float) - second[i]).var() / 300 for i in range(2)) / 4)
    assert found.interval.high - found.interval.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert found.p_value is None, "two pairs say nothing"
    many = [(cell(f"task {i}", seed, [1, 1]), cell(f"task {i}", seed, [1, 0])) for i in range(3) for seed in (1, 2)]
    assert paired.against(many, 2.0).p_value == pytest.approx(2 / 2**6), "all six the same way"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_kept_rows_come_back(rows):
    np.testing.assert_allclose(paired.unpack(paired.pack(rows)), rows, atol=0.5 / 255 + 1e-9)


def test_the_start_learns_the_final_sentence_vector():
    module, batch = make(recipe_start.SentenceVectorModule, pooling="mean", spread=0.2), labelled()
    teacher = module._frozen[0]  # without the noise
    wanted, outputs = teacher(**model_inputs(batch)).features[-1], module(**model_inputs(batch))
    distances = torch.stack([1 - F.cosine_similarity(feature, wanted, dim=-1).mean() for feature in outputs.features])
    loss = module.compute_loss(outputs, {**batch, "labels": batch["labels"].flip(0)})["loss"]
    torch.testing.assert_close(loss, distances.mean())
    before = [value.clone() for value in teacher.state_dict().values()]
    loss.backward()
    torch.optim.SGD(module.parameters(), 1e-3).step()
    assert module.compute_loss(module(**model_inputs(batch)), batch)["loss"] < loss
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.state_dict().values(), strict=True))


def test_heads_that_read_earlier_exits_start_as_they_were():
    model, batch = make(MultiExitModule, pooling="mean", spread=0.1).model.eval(), labelled()
    outputs = model(**model_inputs(batch))
    for past in (False, True):
        heads = recipe_heads.make_heads(model, past).eval()
        torch.testing.assert_close(recipe_heads.logits_of(heads, outputs.features, past), outputs.logits)
    rows = recipe_heads.Features(outputs.features.detach(), batch["labels"], batch["index"], batch["labels"])
    trained = recipe_heads.train_heads(model, rows, "past")
    after = recipe_heads.logits_of(trained, rows.features, past=True)
    torch.testing.assert_close(after[-1], outputs.logits[-1])  # the last exit stays: it teaches
    assert F.cross_entropy(after[0], rows.labels) < F.cross_entropy(outputs.logits[0], rows.labels)
    assert trained[1][0].weight[:, : model.feature_size].abs().sum() > 0  # it reads the exit before
