"""The order of rows under a curriculum: written out, shared by processes, and as long as without one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import assert_same_global_batches

from mebert.curriculum import Annealing, BabySteps, OnePass, RootCompetence
from mebert.curriculum.sampler import CurriculumSampler
from mebert.data.samplers import LengthGroupedSampler
from mebert.errors import UserError

DIFFICULTY = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 6.0])


def sampler_of(difficulty, batch_size=2, lengths=None, group_by_length=False, **settings):
    lengths = np.full(len(difficulty), 9) if lengths is None else lengths
    return CurriculumSampler(lengths, batch_size, lambda epoch: difficulty, group_by_length=group_by_length, **settings)


def test_without_pacing_an_epoch_is_sorted_easy_first_or_hard_first():
    assert list(sampler_of(DIFFICULTY)) == [1, 3, 4, 2, 0, 5]
    assert list(sampler_of(DIFFICULTY, direction="hard_first")) == [5, 0, 2, 4, 3, 1]


@pytest.mark.parametrize(("batch_size", "epoch_batches", "total"), [(3, None, 4), (2, 1, 2)])
def test_the_easy_half_comes_alone_in_the_first_half_of_the_training(batch_size, epoch_batches, total):
    """Of two epochs, whole ones or ones cut to 1 of 3 batches."""
    pacing, used = BabySteps(until=1.0, buckets=2), batch_size * (total // 2)
    for epoch, in_use in ((0, {1, 3, 4}), (1, set(range(6)))):
        rows = set()
        for seed in range(30):
            sampler = sampler_of(
                DIFFICULTY, batch_size, pacing=pacing, epoch_batches=epoch_batches, total_batches=total, seed=seed
            )
            sampler.set_epoch(epoch)
            rows |= set(list(sampler)[:used])
        assert rows == in_use


def test_random_with_pacing_lets_the_same_rows_in_early_in_every_epoch():
    difficulty = np.arange(40.0)
    early = []
    for epoch in (0, 1):
        sampler = sampler_of(difficulty, 4, direction="random", pacing=BabySteps(1.0, 4), total_batches=80, seed=1)
        sampler.set_epoch(epoch)
        early.append(set(sampler))
    assert len(early[0]) == 10
    assert early[0] == early[1] != set(range(10))


@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize("settings", [{}, {"direction": "random"}])
def test_nothing_known_or_random_is_the_shuffle_of_a_run_without_a_curriculum(group, settings):
    lengths = np.random.default_rng(0).integers(3, 60, 230)
    difficulty = None if not settings else lengths.astype(float)
    plain = LengthGroupedSampler(lengths, 8, seed=5, group_by_length=group)
    sampler = CurriculumSampler(lengths, 8, lambda epoch: difficulty, seed=5, group_by_length=group, **settings)
    for epoch in (0, 3):
        plain.set_epoch(epoch)
        sampler.set_epoch(epoch)
        assert list(sampler) == list(plain)


def test_the_difficulty_is_asked_for_by_epoch():
    known = {0: None, 1: DIFFICULTY, 2: -DIFFICULTY}
    sampler = CurriculumSampler(np.full(6, 9), 2, known.__getitem__, group_by_length=False)
    orders = []
    for epoch in known:
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert sorted(orders[0]) == list(range(6))
    assert orders[1:] == [[1, 3, 4, 2, 0, 5], [5, 0, 2, 4, 3, 1]]


pacings = st.sampled_from([None, RootCompetence(), BabySteps(1.0), Annealing(0.7), OnePass(0.9)])


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(3, 60), min_size=6, max_size=200).map(np.array),
    pacing=pacings,
    direction=st.sampled_from(["easy_first", "hard_first", "random"]),
    group=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_global_batches_are_the_same_for_1_2_and_3_processes(lengths, pacing, direction, group, epoch):
    lengths = lengths[: len(lengths) // 6 * 6]
    difficulty = np.where(lengths % 5 == 0, np.nan, lengths % 7)  # ties, and some not known

    def make(batch_size, world, rank):
        return CurriculumSampler(
            lengths, batch_size, lambda epoch: difficulty, direction, pacing, None, 40, world, rank, 3, group
        )

    assert_same_global_batches(make, epoch)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 150), st.integers(1, 4), pacings, st.booleans())
def test_an_epoch_is_as_long_as_without_a_curriculum(rows, world, pacing, group):
    lengths = np.arange(rows) % 13 + 3
    if rows < world:
        with pytest.raises(UserError, match="processes"):
            sampler_of(lengths, num_replicas=world)
        return
    for rank in range(world):
        plain = LengthGroupedSampler(lengths, 4, world, rank)
        sampler = sampler_of(lengths, 4, lengths, group, pacing=pacing, total_batches=99, num_replicas=world, rank=rank)
        assert len(list(sampler)) == len(sampler) == len(plain)


@pytest.mark.parametrize("pacing", [None, RootCompetence(1.0, 0.2), BabySteps(1.0)])
def test_grouping_by_length_pads_hardly_more_than_without_a_curriculum(pacing):
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 120, 8000)
    difficulty = generator.random(8000)

    def padding(sampler):
        batches = lengths[np.array(list(sampler))].reshape(-1, 16)
        return (batches.max(1, keepdims=True) - batches).sum() / batches.sum()

    curriculum = sampler_of(difficulty, 16, lengths, True, pacing=pacing, total_batches=1500)
    plain = LengthGroupedSampler(lengths, 16)
    for epoch in (0, 2):
        curriculum.set_epoch(epoch)
        plain.set_epoch(epoch)
        assert padding(curriculum) < 1.1 * padding(plain)
    assert padding(sampler_of(difficulty, 16, lengths, False)) > 5 * padding(plain)


def test_grouping_by_length_moves_a_row_by_a_fifth_of_an_epoch_at_most():
    generator = np.random.default_rng(1)
    lengths, difficulty = generator.integers(5, 120, 1000), generator.random(1000)
    grouped = np.array(list(sampler_of(difficulty, 10, lengths, True)))
    sorted_places = np.argsort(np.argsort(difficulty))
    assert np.abs(sorted_places[grouped] - np.arange(1000)).max() < 200
