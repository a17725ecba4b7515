"""A threshold for each exit: against all others of a coarse grid, and better than one for all where that cannot fit."""

from itertools import product

import pytest
import torch
from records import random_record

from mebert.calibration import threshold_for_cost, threshold_for_drop, threshold_grid
from mebert.calibration.per_exit import JointSearch, exit_shapes, row_losses, search_by_layers
from mebert.errors import UserError
from mebert.metrics.curve import replay
from mebert.policies import Entropy, FixedExit
from mebert.policies.base import LOOSEST
from mebert.storage.thresholds import as_threshold, read_threshold, threshold_text


def mean(values, exits):
    return float(values.gather(0, exits.unsqueeze(0)).mean())


def overconfident(samples=700, seed=0):
    """A record whose second exit is as sure as the others, and wrong half the time."""
    record = random_record(samples, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    scores = record.scores["max_prob"].clone()
    scores[1] = scores[1] / 3
    blind = torch.rand(samples, generator=generator) < 0.5
    record.logits[1, blind] = record.logits[1, blind].roll(1, dims=-1)
    return record, scores


@pytest.mark.parametrize("seed", range(3))
def test_no_change_of_one_threshold_and_no_shared_one_is_better(seed):
    record = random_record(40, exits=3, seed=seed)
    scores, losses = record.scores["max_prob"], row_losses(record)
    costs = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64).expand(-1, 40)
    cuts = [0.0, *(scores[:-1].flatten() + 1e-6).tolist(), LOOSEST]
    met = 0
    for shape in exit_shapes(scores, losses, costs):
        at = tuple(LOOSEST if o == float("inf") else n for o, n in zip(shape.offsets, both(shape.at(0.5)), strict=True))
        exits = replay(scores, at)
        assert mean(costs, exits) == pytest.approx(shape.cost)
        # The prices for which it is as good as every neighbour and every shared threshold: there is one.
        others = [replay(scores, (cut, at[1])) for cut in cuts] + [replay(scores, (at[0], cut)) for cut in cuts]
        others += [replay(scores, t) for t in (0.0, LOOSEST)]
        points = [(mean(losses, e), mean(costs, e)) for e in others]
        loss, cost = mean(losses, exits), mean(costs, exits)
        low = max([(loss - x) / (c - cost) for x, c in points if c > cost + 1e-9], default=0.0)
        high = min([(x - loss) / (cost - c) for x, c in points if c < cost - 1e-9], default=float("inf"))
        assert low <= high + 1e-9
        assert all(x >= loss - 1e-9 for x, c in points if abs(c - cost) <= 1e-9)
        met += 1
    assert met > 1


def both(threshold):
    return threshold if isinstance(threshold, tuple) else (threshold, threshold)


def test_it_is_better_where_an_exit_is_too_sure_of_itself():
    record, scores = overconfident()
    fresh, fresh_scores = overconfident(seed=1)
    search = search_by_layers(record, scores, [1, 2, 3, 4], "acc")
    full = torch.full((700,), 3)

    def accuracy(data, exits):
        return float((data.logits_at(exits).argmax(-1) == data.labels).double().mean())

    for speedup in (1.3, 1.6, 2.0):
        shared, own = threshold_for_cost(scores, search.costs, 4 / speedup), search.for_cost(4 / speedup)
        assert mean(search.costs, replay(scores, own)) <= 4 / speedup
        assert own[1] < min(own[0], own[2]), "the exit that is too sure has the strictest threshold"
        gain = accuracy(fresh, replay(fresh_scores, own)) - accuracy(fresh, replay(fresh_scores, shared))
        assert gain > 0.03, "on rows that chose nothing"
    shape, own = search.for_drop(0.01)
    assert accuracy(record, full) - accuracy(record, replay(scores, own)) <= 0.01 + 1e-6
    shared = threshold_for_drop(scores, search.metric_at, 0.01)
    assert mean(search.costs, replay(scores, own)) < mean(search.costs, replay(scores, shared))
    path = [shape.at(t) for t in threshold_grid().tolist()]  # for a guarantee: no exit comes later as it gets looser
    exits = torch.stack([replay(scores, at) for at in path])
    assert bool((exits[1:] <= exits[:-1]).all())


def test_one_for_all_stays_where_none_is_better():
    record = random_record(300)
    record.logits[:] = torch.nn.functional.one_hot(record.labels, 3) * 4.0  # no exit is ever wrong
    scores = record.scores["max_prob"]
    search = search_by_layers(record, scores, [1, 2, 3, 4], "acc")
    assert search.for_cost(2.0) == threshold_for_cost(scores, search.costs, 2.0)
    never = JointSearch(torch.full((4, 300), float("inf")), search.costs, search.metric_at, search.shapes)
    assert never.for_cost(3.0) is None


def test_a_list_is_a_threshold_everywhere():
    assert as_threshold([0.0, 0.0]) == 0.0, "the full depth has one name"
    for threshold in (0.25, (0.1, 0.25), float("inf")):
        assert read_threshold(threshold_text(threshold, 17)) == threshold
    policy = Entropy(threshold=[0.5, 0.25])
    assert policy.threshold == (0.5, 0.25)
    assert policy.may_leave(1)
    assert not Entropy(threshold=(0.5, 0.0)).may_leave(1)
    for wrong, text in (([0.5, 2.0], "must be in"), ([], "is an empty list"), (["a"], "must be a number")):
        with pytest.raises(UserError, match=text):
            Entropy(threshold=wrong)
    with pytest.raises(UserError, match="one threshold alone"):
        FixedExit(threshold=(0.5, 0.5))
    with pytest.raises(UserError, match=r"has 3 number\(s\), but the model has 3 exits: give one number, or 2"):
        replay(torch.rand(3, 5), (0.1, 0.2, 0.3))


def test_the_shared_threshold_is_the_shape_of_no_offsets():
    record = random_record(50, exits=3)
    scores = record.scores["max_prob"]
    search = search_by_layers(record, scores, [1, 2, 3], "acc")
    for shape, t in product(search.shapes, (0.01, 0.2, 0.7)):
        ours = replay(shape.shared_scores(scores), t)
        same = (ours == replay(scores, shape.at(t))).double().mean()
        assert same > 0.97, "but for rounding"
