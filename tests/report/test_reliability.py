"""Intervals, agreement and shares of operating points, against the record itself."""

import csv
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import bootstrap

from mebert.metrics.at_speed import exits_at_speedup
from mebert.metrics.bootstrap import bootstrap_intervals
from mebert.metrics.curve import ExitRecord
from mebert.models.flops import direct_exit_flops
from mebert.report.comparison import compare_policies
from mebert.report.evaluation import evaluate
from mebert.report.files import write_evaluation
from mebert.report.reliability import add_reliability, reliability_of
from mebert.report.tables import exit_share_table, operating_table, policy_table


@pytest.fixture(scope="module")
def made(recorded):
    model, record, policies, thresholds = recorded
    evaluation = evaluate(model, record, "test", ("acc",), policies["entropy"], policies, thresholds, (1.5, 2.0))
    names = ["entropy", "max_prob", "patience"]
    evaluation.policies = compare_policies(
        model, record, "acc", [1.0, 1.5, 2.0], policies["entropy"], validation=None, names=names
    )
    add_reliability(evaluation, record)
    return model, record, evaluation


def test_operating_points(made):
    _, record, evaluation = made
    points = [p for ps in evaluation.points.values() for p in ps] + [evaluation.current, evaluation.oracle]
    assert len(points) == 5
    for point in points:
        logits = record.logits_at(point.exits)
        (expected,) = bootstrap_intervals("acc", [logits], record.labels)
        assert point.interval == (expected.low, expected.high)
        assert point.interval[0] <= point.metric + 1e-6
        assert point.metric - 1e-6 <= point.interval[1]
        layers = np.array([1, 2, 3])[point.exits.numpy()]
        drawn = bootstrap((layers,), lambda x, axis: 3 / x.mean(axis), n_resamples=5000, method="percentile", rng=0)
        assert point.speedup_interval == pytest.approx(tuple(drawn.confidence_interval), abs=0.04)
        assert point.speedup_interval[0] <= point.speedup_layers <= point.speedup_interval[1]
        same = sum(bool(a == b) for a, b in zip(logits.argmax(-1), record.logits[-1].argmax(-1), strict=True))
        assert point.agreement == pytest.approx(same / 60)
        assert point.shares == pytest.approx([float((point.exits == e).double().mean()) for e in range(3)])


def test_compared_policies_at_each_speed(made, tmp_path):
    _, record, evaluation = made
    write_evaluation(evaluation, tmp_path, "t")
    written = json.loads((tmp_path / "evaluation.json").read_text())
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["target"]]
    for name in ("entropy", "patience"):  # one whose curve is drawn, one that is only compared
        drawn = evaluation.curves.get(name) or evaluation.policies[name].curve
        assert [float(row["acc"]) for row in rows if row["policy"] == name] == [point.metric for point in drawn]
    for name, result in written["policies"].items():
        assert set(result["reliability"]) == {t for t, value in result["at"].items() if value is not None}
        full = result["reliability"]["1"]
        assert full["agreement"] == 1.0
        assert full["shares"] == [0.0, 0.0, 1.0]
        for target, one in result["reliability"].items():
            exits = exits_at_speedup(record.scores[name], [1, 2, 3], float(target))
            assert one["shares"] == pytest.approx((torch.bincount(exits, minlength=3) / 60).tolist())
            assert one["interval"][0] <= one["interval"][1]
    point = written["operating_points"]["entropy"][0]
    assert len(point["interval"]) == 2
    assert len(point["shares"]) == 3


def test_elue_is_against_the_model_cut_after_each_layer(made):
    model, record, evaluation = made
    costs = [float(cost.mean()) / 1e9 for cost in direct_exit_flops(model, record.lengths)]
    right = [float((x.argmax(-1) == record.labels).double().mean()) for x in record.logits]
    assert evaluation.cut == [(pytest.approx(c), pytest.approx(r)) for c, r in zip(costs, right, strict=True)]
    fixed = evaluation.elue(evaluation.fixed)
    assert abs(fixed) < 0.05, "the same answers, which only cost the heads on the way"
    for point in evaluation.fixed:
        point.metric += 0.1
    better = evaluation.elue(evaluation.fixed)
    for point in evaluation.fixed:
        point.metric -= 0.1
    # The cheapest cut model is cheaper than any early exit and counts as itself.
    assert fixed + 0.1 * 2 / 3 - 1e-6 <= better <= fixed + 0.1 + 1e-6


def test_tables_fit_a_terminal(made):
    evaluation = made[2]
    console = Console(width=120, record=True)
    for table in (operating_table, exit_share_table, policy_table):
        console.print(table(evaluation))
    text = console.export_text()
    low, high = evaluation.points["entropy"][0].interval
    assert f"{low:.4f}-{high:.4f}" in text
    assert f"{evaluation.points['entropy'][0].agreement:.1%}" in text
    assert f"{evaluation.elue(evaluation.policies['patience'].curve):+.4f}" in text
    assert "…" not in text, "nothing is cut"


def test_regression_and_nothing():
    record = ExitRecord(torch.randn(3, 20, 1), torch.randn(20), torch.arange(20), torch.full((20,), 5))
    (found,) = reliability_of(record, "pearson", [torch.zeros(20).long()])
    assert found.agreement is None
    assert found.interval[0] < found.interval[1]
    assert reliability_of(record, "pearson", []) == []
