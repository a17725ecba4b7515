"""The default operating point: the fastest with a small drop, and what validation data expect of any point."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from modules.recipes import make
from records import random_record
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, matthews_corrcoef

from mebert import modules
from mebert.calibration.default_point import default_threshold, expected_at
from mebert.errors import UserError
from mebert.metrics.bootstrap import speedup_interval
from mebert.metrics.curve import ExitRecord, replay
from mebert.metrics.task import metric_value
from mebert.modules import GEEPModule, MultiExitModule, ProtoExitModule
from mebert.policies import Entropy, FixedExit, MaxProbability, Patience
from mebert.storage.operating_point import OperatingPoint
from mebert.storage.spec_parts import Expected

LAYERS = [1, 2, 3, 4]
RECIPES = [m for _, m in sorted(vars(modules).items()) if inspect.isclass(m) and issubclass(m, MultiExitModule)]


def layers_run(record, threshold, policy="max_prob"):
    return int(torch.tensor(LAYERS)[replay(record.scores[policy], threshold)].sum())


@pytest.mark.parametrize(("metric", "oracle"), [("acc", accuracy_score), ("matthews", matthews_corrcoef)])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 9999), max_drop=st.sampled_from([0.0, 0.005, 0.02, 0.1, 0.3]))
def test_no_faster_threshold_is_within_the_drop(metric, oracle, seed, max_drop):
    record = random_record(samples=40, seed=seed)
    scores = record.scores["max_prob"]

    def drop(threshold):
        early = record.logits_at(replay(scores, threshold)).argmax(-1)
        return oracle(record.labels, record.logits[-1].argmax(-1)) - oracle(record.labels, early)

    chosen = default_threshold(record, scores, metric, max_drop)
    assert drop(chosen) <= max_drop + 1e-6
    every = [0.0, *(float(np.nextafter(np.float32(s), np.float32(2))) for s in scores[:-1].flatten().tolist())]
    fastest = min(layers_run(record, one) for one in every if drop(one) <= max_drop + 1e-6)
    assert layers_run(record, chosen) == fastest


def test_where_the_metric_is_undefined_nothing_leaves_early():
    record = random_record(samples=30, classes=2)
    record = ExitRecord(record.logits[..., :1] * 0 + 1.0, record.labels.float(), record.index, record.lengths)
    scores = torch.rand(4, 30)
    assert math.isnan(metric_value("pearson", record.logits[-1], record.labels))
    assert default_threshold(record, scores, "pearson", 0.005) == 0.0


def test_what_is_expected():
    record = random_record(samples=200)
    policy = MaxProbability(0.4)
    found = expected_at(record, policy, LAYERS, "acc")
    exits = [next((e for e in range(3) if record.scores["max_prob"][e, n] < 0.4), 3) for n in range(200)]
    early = record.logits[exits, range(200)].argmax(-1)
    value, full = accuracy_score(record.labels, early), accuracy_score(record.labels, record.logits[-1].argmax(-1))
    layers = np.array(LAYERS)[exits]
    assert (found.value, found.drop) == pytest.approx((value, full - value), abs=1e-6)
    assert found.speedup == pytest.approx(4 / layers.mean())
    assert (found.threshold, found.metric, found.samples) == (0.4, "acc", 200)
    ends = bootstrap((layers,), lambda x, axis: 4 / x.mean(axis), n_resamples=5000, method="percentile", rng=0)
    assert found.speedup_interval == pytest.approx(list(ends.confidence_interval), abs=0.03)
    assert expected_at(record, Entropy(0.4), LAYERS, "acc") is None, "its scores were not recorded"
    fixed = FixedExit(exit=2)
    assert expected_at(record, fixed, LAYERS, "acc").speedup == 2.0
    assert expected_at(record, fixed.with_threshold(0.0), LAYERS, "acc").speedup == 1.0


@pytest.mark.parametrize(("rows", "by", "told"), [(45, "max_drop 0.005", True), (200, "max_drop 0.005", False)])
def test_a_drop_of_less_than_a_row_is_told(rows, by, told):
    expected = Expected(threshold=0.5, metric="acc", value=0.9, drop=0.0, speedup=2.0, samples=rows)
    lines = OperatingPoint("entropy", 0.5, by, expected).as_lines()
    assert ("few rows" in lines) == told
    assert not told or "a row of 45 is 0.022: other rows may lose more" in lines["few rows"]


def test_the_speedups_interval_draws_whole_questions():
    exits, questions = torch.tensor([0] * 50 + [3] * 50), torch.arange(100) // 25
    rows, whole = speedup_interval(exits, LAYERS), speedup_interval(exits, LAYERS, questions)
    assert rows.high - rows.low < 0.5
    assert (whole.low, whole.high) == (1.0, 4.0), "four questions: all of one kind in one of sixteen draws"
    assert speedup_interval(exits[:0], LAYERS) is None


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
@pytest.mark.parametrize("num_labels", [3, 1])
def test_no_recipe_has_a_threshold_or_a_speed_of_its_own(recipe, num_labels):
    if num_labels == 1 and recipe is ProtoExitModule:
        with pytest.raises(UserError, match="prototypes need at least 2 classes, got num_labels=1"):
            make(recipe, num_labels=num_labels)
        return
    module = make(recipe, num_labels=num_labels)
    assert (module.threshold, module.target_speedup, module.max_drop) == (None, None, 0.005)
    assert module.policy.threshold == 0.0
    assert not any(module.policy.may_leave(e) for e in range(module.model.num_exits - 1))
    assert make(recipe, num_labels=num_labels, threshold=0.25).policy.threshold == pytest.approx(0.25)


def record_for(module, samples=120):
    """A pass with the scores of the module's policies, over exits that get better with depth."""
    record = random_record(samples, module.model.num_exits, 3)
    features = torch.randn(module.model.num_exits, samples, module.model.feature_size)
    with torch.no_grad():
        policies = module.score_policies().items()
        record.scores = {name: policy.score_exits(record.logits, features) for name, policy in policies}
    return record


@pytest.mark.parametrize("recipe", [MultiExitModule, ProtoExitModule, GEEPModule])
@pytest.mark.parametrize(
    ("given", "by"),
    [
        ({}, "max_drop 0.005"),
        ({"max_drop": 0.1}, "max_drop 0.1"),
        ({"target_speedup": 1.5}, "target_speedup 1.5"),
        ({"threshold": 0.3}, "threshold 0.3"),
        ({"policy": MaxProbability()}, "max_drop 0.005"),
        ({"policy": MaxProbability(0.2)}, "threshold 0.2"),
        ({"policy": Patience(patience=2)}, "threshold 0.4"),
        ({"policy": MaxProbability(0.2), "threshold": 0.3}, "threshold 0.3"),
        ({"policy": FixedExit(exit=2)}, "the policy, which has no threshold to choose"),
    ],
)
def test_what_the_user_sets_wins_and_is_named(recipe, given, by):
    module = make(recipe, **given)
    record = record_for(module)
    module.choose_operating_points(record, (1.2, 2.0), "acc")
    point = module.operating_point
    assert (point.chosen_by, point.policy) == (by, module.policy.name)
    assert by in str(point)
    if by.startswith("max_drop"):
        assert point.expected.drop <= module.max_drop + 1e-6
        assert point.threshold == default_threshold(record, record.scores[point.policy], "acc", module.max_drop)
    if by.startswith("target"):
        assert point.expected.speedup >= 1.5
    if by.startswith("threshold"):
        assert f"{point.threshold:g}" == by.split()[1]


def test_two_settings_are_told():
    with pytest.warns(UserWarning, match="target_speedup 2 chooses nothing: threshold is 0.3"):
        make(MultiExitModule, threshold=0.3, target_speedup=2.0)


@pytest.mark.parametrize("value", [1, 1.0, 5, 50.0])
def test_a_percentage_is_asked_about(value):
    with pytest.raises(UserError, match=f"max_drop {value:g} would allow any loss.* give max_drop {value / 100:g}"):
        make(MultiExitModule, max_drop=value)
