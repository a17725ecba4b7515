"""What fits a policy and what promises: never the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from records import random_record
from tiny import tiny_model

from mebert.calibration import guaranteed_threshold
from mebert.calibration.fitting import fit_policy
from mebert.metrics.curve import replay
from mebert.policies import Entropy, ExitPolicy, Stacked

ROWS = 300


@dataclass
class LearntByHeart(ExitPolicy):
    """Fits as badly as can be: it remembers which rows the first exit gets wrong, and lets all others go there."""

    wrong: tuple[int, ...] | None = None

    name = "learnt_by_heart"

    def fitted(self, record):
        wrong = record.logits[0].argmax(-1) != record.labels
        return replace(self, wrong=tuple(record.index[wrong].tolist()))

    def score_record(self, record):
        stays = torch.isin(record.index, torch.tensor(self.wrong or (), dtype=torch.int64))
        return torch.where(stays, 1.0, 0.01).expand(record.num_exits, -1)


@pytest.fixture
def record():
    found = random_record(ROWS, exits=3, seed=2)
    return replace(found, index=torch.arange(ROWS) + 1000, scores={"entropy": found.scores["max_prob"]})


def test_a_promise_is_made_on_rows_that_fitted_nothing(record):
    policy, _, rest = fit_policy(LearntByHeart(), tiny_model(num_labels=3), record, held_out=True)
    assert len(rest.labels) == ROWS * 2 // 3
    wrong = record.logits[0].argmax(-1) != record.labels
    fitted_to = ~torch.isin(record.index, rest.index)
    assert set(policy.wrong) == set(record.index[wrong & fitted_to].tolist())
    assert torch.equal(rest.scores[policy.name], policy.score_record(rest))
    assert torch.equal(rest.labels, record.labels[rest.index - 1000])
    # These rows show what it has learnt: nothing. So nobody may leave.
    found = guaranteed_threshold(rest, rest.scores[policy.name], 0.1, 0.1)
    assert bool((replay(rest.scores[policy.name], found.threshold) == 2).all())


def test_without_a_promise_all_rows_fit_and_choose(record):
    policy, _, rest = fit_policy(LearntByHeart(), tiny_model(num_labels=3), record, held_out=False)
    assert torch.equal(rest.index, record.index)
    # Why a promise needs others: on its own rows this policy looks perfect, and is right for few of those to come.
    found = guaranteed_threshold(rest, rest.scores[policy.name], 0.1, 0.1)
    assert (found.threshold, found.measured) == (1.0, 0.0)
    fresh = replace(random_record(ROWS, exits=3, seed=3), index=torch.arange(ROWS))
    exits = replay(policy.score_record(fresh), found.threshold)
    lost = (fresh.logits_at(exits).argmax(-1) != fresh.labels) & (fresh.logits[-1].argmax(-1) == fresh.labels)
    assert float(lost.double().mean()) > 0.2


def test_what_has_nothing_to_fit_keeps_all_rows(record):
    policy = Entropy()
    assert fit_policy(policy, tiny_model(num_labels=3), record, held_out=True) == (policy, record, record)


def test_which_rows_fit_does_not_hang_on_their_order_in_the_file(record):
    """Drawn at random, not the first third, which may be of one kind."""
    _, _, rest = fit_policy(Stacked(), tiny_model(num_labels=3), record, held_out=True)
    thirds = torch.bincount((rest.index - 1000) // (ROWS // 3), minlength=3)
    assert thirds.min() > 50
