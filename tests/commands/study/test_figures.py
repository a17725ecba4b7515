"""Figures over seeds, areas and ranks, against other implementations."""

import numpy as np
import pytest
import torch
from sklearn.metrics import matthews_corrcoef

from mebert.commands.study.report import _figure, mean_ranks
from mebert.commands.study.results import _Run, _trapezoids, estimate
from mebert.metrics.curve import ExitRecord, area_under_curve, fixed_exit_points, sweep

LAYERS = [1, 2, 4]


def record(seed, rows=60, classes=2, queries=False, labels_seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=torch.Generator().manual_seed(labels_seed))
    logits = torch.randn(3, rows, classes, generator=generator) + torch.nn.functional.one_hot(labels, classes)
    return ExitRecord(
        logits,
        labels,
        torch.arange(rows),
        torch.full((rows,), 9),
        {"entropy": torch.rand(3, rows, generator=generator)},
        queries=torch.arange(rows) // 6 if queries else None,
    )


def at_exit(one, index):
    return [(torch.full_like(one.index, index), 1.0)]


def test_accuracy_and_its_interval_by_loops():
    """Seeds are averaged within each draw of rows; the interval is that of plain numpy up to the draws' chance."""
    records = [record(seed, rows=200) for seed in (1, 2, 3)]
    found = estimate("acc", records, [at_exit(one, 2) for one in records])
    right = np.array([(one.logits[2].argmax(-1) == one.labels).numpy() for one in records])
    assert found.mean == pytest.approx(right.mean())
    assert found.deviation == pytest.approx(right.mean(1).std(ddof=1))
    assert found.seeds == 3
    generator = np.random.default_rng(5)
    drawn = []
    for _ in range(4000):
        rows = generator.integers(0, 200, 200)
        drawn.append(np.mean([of_seed[rows].mean() for of_seed in right]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.012), pytest.approx(high, abs=0.012))


def test_equal_seeds_do_not_narrow_the_interval():
    one = record(1, rows=200)
    alone = estimate("acc", [one], [at_exit(one, 0)])
    thrice = estimate("acc", [one] * 3, [at_exit(one, 0)] * 3)
    assert (thrice.low, thrice.high) == (pytest.approx(alone.low), pytest.approx(alone.high))
    assert (alone.deviation, thrice.deviation) == (None, 0.0)


def test_seeds_on_other_rows_are_resampled_one_by_one():
    records = [record(1, rows=200), record(2, rows=150, labels_seed=9)]
    found = estimate("acc", records, [at_exit(one, 0) for one in records])
    errors = []
    for one in records:
        p = float((one.logits[0].argmax(-1) == one.labels).double().mean())
        errors.append(p * (1 - p) / len(one.labels))
    width = 2 * 1.96 * np.sqrt(sum(errors)) / 2
    assert found.high - found.low == pytest.approx(width, rel=0.15)


def test_a_metric_that_is_no_mean_is_computed_anew():
    records = [record(seed, rows=120) for seed in (1, 2)]
    found = estimate("matthews", records, [at_exit(one, 2) for one in records])
    values = [matthews_corrcoef(one.labels, one.logits[2].argmax(-1)) for one in records]
    assert found.mean == pytest.approx(np.mean(values), abs=1e-6)
    assert found.low < found.mean < found.high
    halves = [[(one.index * 0, 0.5), (one.index * 0 + 2, 0.5)] for one in records]
    ends = [estimate("matthews", records, [at_exit(one, e) for one in records]) for e in (0, 2)]
    mixed = estimate("matthews", records, halves)
    assert mixed.mean == pytest.approx((ends[0].mean + ends[1].mean) / 2)
    assert mixed.low < mixed.mean < mixed.high


def test_a_figure_without_a_value_is_told_as_none_and_not_ranked():
    """A regression that says the same of every text has no correlation; questions without a right answer no MAP."""
    one = record(1)
    one.logits, one.labels = torch.ones(3, 60, 1), torch.arange(60.0)
    constant = estimate("pearson", [one], [at_exit(one, 0)])
    two = record(1, queries=True)
    two.labels = torch.zeros(60).long()
    unanswered = estimate("map", [two], [at_exit(two, 0)])
    for found in (constant, unanswered):
        assert np.isnan(found.mean)
        assert (found.low, found.high) == (None, None)
        assert _figure(found, 0.5) == "-"


def test_the_area_as_a_mixture_is_the_area_under_the_curve():
    one = record(4)
    layers = torch.tensor(LAYERS, dtype=torch.float64)
    spent = layers.unsqueeze(1).expand(-1, 60)

    def accuracy(logits, labels):
        return float((logits.argmax(-1) == labels).double().mean())

    arguments = (LAYERS, spent, spent[-1], accuracy)
    run = _Run(one, {"metric": "acc"}, LAYERS)
    for first_exit in (one.scores["entropy"][0].clone(), float("inf")):  # then a policy that cannot leave there
        one.scores["entropy"][0] = first_exit
        points = sweep(one, "entropy", *arguments, num_points=60)
        expected = area_under_curve(points, fixed_exit_points(one, *arguments)[-1])
        found = estimate("acc", [one], [_trapezoids(run.curve("entropy", "acc"))])
        assert found.mean == pytest.approx(expected)


def test_mean_ranks_compare_only_what_every_task_has():
    tables = [{"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.99}, {"a": 0.5, "b": 0.5, "c": 0.6, "d": None}]
    assert mean_ranks(tables) == {"a": 1.75, "c": 2.0, "b": 2.25}
    assert mean_ranks([{"a": None}]) == {}
