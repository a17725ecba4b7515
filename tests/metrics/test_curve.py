import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mebert.metrics.curve import (
    CurvePoint,
    ExitRecord,
    area_under_curve,
    fixed_exit_points,
    oracle_exits,
    point_at,
    replay,
    speedup_layers,
    sweep,
    threshold_for_speedup,
)
from mebert.metrics.task import metric_value


def accuracy(logits, labels):
    return metric_value("acc", logits, labels)


def random_record(exits=4, samples=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(exits, samples, 3, generator=generator)
    labels = torch.randint(0, 3, (samples,), generator=generator)
    scores = {"any": torch.rand(exits, samples, generator=generator)}
    return ExitRecord(logits, labels, torch.arange(samples), torch.full((samples,), 10), scores)


def costs(record, layers):
    flops = torch.tensor(layers).double().unsqueeze(1).expand(-1, len(record.labels)).contiguous()
    return flops, torch.full((len(record.labels),), float(layers[-1])).double()


def loop_replay(scores, threshold):
    exits = []
    for column in scores.T:
        for index, score in enumerate(column):
            if score < threshold or index == len(column) - 1:
                exits.append(index)
                break
    return exits


@given(st.integers(0, 1000), st.floats(0, 1.2))
def test_replay_equals_the_loop(seed, threshold):
    scores = random_record(samples=20, seed=seed).scores["any"]
    scores[0, 0] = threshold  # strictly below: it stays
    assert replay(scores, threshold).tolist() == loop_replay(scores, threshold)


def test_point_by_hand():
    logits = torch.tensor([[[2.0, 0], [0, 2.0]], [[0, 2.0], [0, 2.0]]])  # exit 1 says 0, 1; exit 2 says 1, 1
    record = ExitRecord(
        logits,
        torch.tensor([0, 1]),
        torch.arange(2),
        torch.tensor([4, 8]),
        {"s": torch.tensor([[0.1, 0.9], [0.0, 0.0]])},
    )
    flops = torch.tensor([[10.0, 20.0], [30.0, 60.0]]).double()
    point = point_at(record, "s", 0.5, (3, 6), flops, torch.tensor([29.0, 58.0]).double(), accuracy)
    assert point.exits.tolist() == [0, 1]
    assert point.metric == 1.0
    assert point.speedup_layers == pytest.approx(6 * 2 / (3 + 6))
    assert point.speedup_flops == pytest.approx((29 + 58) / (10 + 60))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_sweep_goes_from_all_layers_to_the_first_exit_and_only_gets_faster(seed):
    record = random_record(seed=seed)
    layers = (1, 2, 4, 6)
    points = sweep(record, "any", layers, *costs(record, layers), accuracy)
    assert points[0].speedup_layers == 1.0
    assert points[-1].speedup_layers == 6.0
    speeds = [p.speedup_layers for p in points]
    assert speeds == sorted(speeds)
    for p in points:
        assert p.speedup_flops == pytest.approx(p.speedup_layers)  # costs are the layers themselves here
        assert p.metric == accuracy(record.logits_at(p.exits), record.labels)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(1.0, 7.0))
def test_threshold_for_speedup_is_the_strictest_that_reaches_it(seed, target):
    layers = (1, 2, 4, 6)
    scores = random_record(samples=15, seed=seed).scores["any"]
    threshold = threshold_for_speedup(scores, layers, target)
    by_trial = [
        t
        for t in [0.0, *torch.nextafter(scores, torch.tensor(2.0)).flatten().tolist()]
        if speedup_layers(replay(scores, t), layers) >= target
    ]
    if not by_trial:
        assert threshold is None
    else:
        assert speedup_layers(replay(scores, threshold), layers) >= target
        best = min(speedup_layers(replay(scores, t), layers) for t in by_trial)
        assert speedup_layers(replay(scores, threshold), layers) == pytest.approx(best)


def test_area_is_the_mean_metric_over_cost():
    record = random_record()
    layers = (1, 2, 3, 4)
    points = fixed_exit_points(record, layers, *costs(record, layers), accuracy)
    assert [p.speedup_layers for p in points] == pytest.approx([1, 4 / 3, 2, 4])
    metrics = [p.metric for p in points]
    by_hand = (metrics[0] / 2 + metrics[1] + metrics[2] + metrics[3] / 2) / 3
    assert area_under_curve(points) == pytest.approx(by_hand)
    assert area_under_curve(points[:1]) == points[0].metric


def test_oracle_takes_the_first_right_exit():
    logits = torch.full((3, 4, 2), 0.0)
    says = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 1, 0]])
    logits.scatter_(2, says.unsqueeze(-1), 1.0)
    record = ExitRecord(logits, torch.tensor([0, 1, 0, 0]), torch.arange(4), torch.ones(4))
    assert oracle_exits(record).tolist() == [0, 1, 0, 1]  # the third is never right: no exit is paid for


def test_a_curve_that_ends_early_goes_on_to_the_first_exit():
    def point(speedup, metric):
        return CurvePoint("p", 0.5, metric, speedup, speedup, torch.zeros(1))

    points, first = [point(1.0, 0.9), point(2.0, 0.8)], point(4.0, 0.4)
    # Cost 1 to 1/2: mean 0.85; 1/2 to 1/4: mean 0.6.
    assert area_under_curve(points, first) == pytest.approx((0.85 * 0.5 + 0.6 * 0.25) / 0.75)
    whole = [*points, point(4.0, 0.5)]
    assert area_under_curve(whole, first) == area_under_curve(whole), "one that gets there has its own end"
