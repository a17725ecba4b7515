"""Every row once, equal shares, and the same global batches on any number of processes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import assert_same_global_batches, global_batches

from mebert.data.samplers import PADDING_ROW, EvalSampler, LengthGroupedSampler
from mebert.errors import UserError

lengths_lists = st.lists(st.integers(3, 128), min_size=1, max_size=400).map(np.array)
worlds = st.integers(1, 5)


@settings(max_examples=40, deadline=None)
@given(lengths_lists, worlds)
def test_eval_visits_every_row_once_in_equal_shares(lengths, world):
    shares = [list(EvalSampler(lengths, world, rank)) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert len(shares[0]) == len(EvalSampler(lengths, world, 0))
    rows = [row for share in shares for row in share]
    assert sorted(row for row in rows if row != PADDING_ROW) == list(range(len(lengths)))
    assert rows.count(PADDING_ROW) == -len(lengths) % world
    assert (np.diff(lengths[list(EvalSampler(lengths))]) <= 0).all(), "the longest first"


@settings(max_examples=40, deadline=None)
@given(lengths_lists, worlds, st.integers(0, 3), st.booleans())
def test_training_visits_rows_at_most_once_in_equal_shares(lengths, world, epoch, group):
    if len(lengths) < world:
        with pytest.raises(UserError, match="processes"):
            LengthGroupedSampler(lengths, 4, world)
        return
    samplers = [LengthGroupedSampler(lengths, 4, world, rank, 7, group) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    assert {len(share) for share in shares} == {len(lengths) // world} == {len(samplers[0])}
    rows = [row for share in shares for row in share]
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(range(len(lengths)))


@pytest.mark.parametrize("group", [True, False])
@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(3, 128), min_size=6, max_size=400).map(np.array), epoch=st.integers(0, 3))
def test_global_batches_are_the_same_for_1_2_and_3_processes(group, lengths, epoch):
    lengths = lengths[: len(lengths) // 6 * 6]
    assert_same_global_batches(
        lambda size, world, rank: LengthGroupedSampler(lengths, size, world, rank, 3, group), epoch
    )
    assert_same_global_batches(lambda size, world, rank: EvalSampler(lengths, world, rank), epoch)


def test_only_the_last_batch_gives_up_rows_for_equal_shares():
    lengths = np.arange(103) % 17 + 3
    one = global_batches([LengthGroupedSampler(lengths, 20)], 20)
    two = global_batches([LengthGroupedSampler(lengths, 10, 2, rank) for rank in (0, 1)], 10)
    assert one[:-1] == two[:-1]
    assert len(one[-1]) == 3
    assert len(two[-1]) == 2
    assert set(two[-1]) < set(one[-1])


def test_order_depends_on_seed_and_epoch_only():
    lengths = np.random.default_rng(0).integers(3, 60, 500)
    sampler, again = LengthGroupedSampler(lengths, 8, seed=1), LengthGroupedSampler(lengths, 8, seed=1)
    np.random.seed(0)
    first = list(sampler)
    np.random.seed(1)
    assert list(again) == first
    again.set_epoch(3)
    assert list(again) != first
    sampler.set_epoch(3)  # a resumed run is told its epoch and goes on in the same order
    assert list(sampler) == list(again)
    assert list(LengthGroupedSampler(lengths, 8, seed=2)) != first


def test_grouping_reduces_padding_and_keeps_batches_mixed():
    lengths = np.random.default_rng(0).integers(5, 120, 2000)

    def padding(group):
        order = np.array(list(LengthGroupedSampler(lengths, 16, group_by_length=group)))
        batches = lengths[order].reshape(-1, 16)
        return (batches.max(1, keepdims=True) - batches).sum() / lengths.sum()

    assert padding(True) < padding(False) / 4
    sampler = LengthGroupedSampler(lengths, 16)
    first = [frozenset(batch) for batch in np.array(list(sampler)).reshape(-1, 16).tolist()]
    sampler.set_epoch(1)
    second = [frozenset(batch) for batch in np.array(list(sampler)).reshape(-1, 16).tolist()]
    assert not set(first) & set(second)
    longest = [max(lengths[list(batch)]) for batch in first]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)
