"""A pass over a whole split: every row's score at its own place, and nothing left changed."""

import numpy as np
import pytest
import torch
from tiny import quiet_trainer
from torch import nn

from mebert.data.scoring import evaluation_mode, score_split
from mebert.data.tokenised import TokenisedSplit, collate


def split_of(rows):
    """Rows of 1 to 9 tokens; row i consists of the token 10 + i, and is number 2 i of the raw split."""
    lengths = np.arange(rows) * 7 % 9 + 1
    return TokenisedSplit(
        tokens=np.repeat(np.arange(10, 10 + rows, dtype=np.int32), lengths),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        token_types=np.repeat(np.arange(rows, dtype=np.int8) % 2, lengths),
        index=np.arange(rows) * 2,
        labels=np.arange(rows) % 3,
        difficulty=np.arange(rows) + 100,
        queries=np.arange(rows) // 2,
    )


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_scores_stand_at_the_places_of_their_rows(batch_size):
    def collate_batch(items):
        return collate(items, pad_token_id=0)

    def score(batch):
        assert not torch.is_grad_enabled()
        return torch.stack([batch["input_ids"][:, 0], batch["attention_mask"].sum(1)], dim=1)

    split = split_of(23)
    scores = score_split(quiet_trainer(), split, collate_batch, score, batch_size)
    assert scores[:, 0].tolist() == list(range(10, 33))
    assert scores[:, 1].tolist() == split.lengths.tolist()


def test_evaluation_mode_gives_every_part_its_own_mode_back():
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 2)))
    module[1][0].eval()  # a frozen part
    before = [part.training for part in module.modules()]
    with evaluation_mode(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == before == [True, True, True, False, True]


def test_some_rows_as_a_split_of_their_own_keep_all_that_they_have():
    split = split_of(10)
    rows = np.array([7, 0, 4])
    part = split.select(rows)
    assert len(part) == 3
    for place, row in enumerate(rows):
        taken, whole = part[place], split[row]
        assert taken.keys() == whole.keys()
        for name in whole:
            assert np.array_equal(taken[name], whole[name]), name
    assert part.index.tolist() == [14, 0, 8]
