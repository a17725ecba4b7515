"""Ranking and drawing: what is in use is drawn evenly, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mebert.curriculum.ordering import MOVES, draw_rows, rank_rows


def rng(seed=0):
    return np.random.default_rng(seed)


def test_rows_of_unknown_difficulty_stand_in_the_middle():
    difficulty = np.array([np.nan, 5.0, 1.0, 9.0, 4.0, 6.0])  # the median of the known ones is 5
    for direction, expected in (("easy_first", [2, 4, {0, 1}, 5, 3]), ("hard_first", [3, 5, {0, 1}, 4, 2])):
        ranked = rank_rows(difficulty, direction, rng()).tolist()
        assert [ranked[0], ranked[1], {ranked[2], ranked[3]}, ranked[4], ranked[5]] == expected
    all_unknown = {tuple(rank_rows(np.full(4, np.nan), "easy_first", rng(seed))) for seed in range(50)}
    assert len(all_unknown) > 10, "nothing known: by chance"


@pytest.mark.parametrize("direction", ["easy_first", "hard_first"])
def test_ties_are_broken_by_chance_and_evenly(direction):
    difficulty = np.array([1.0] * 4 + [2.0] * 4)
    easy, hard = ([0, 1, 2, 3], [4, 5, 6, 7])[:: 1 if direction == "easy_first" else -1]
    firsts = []
    for seed in range(400):
        ranked = rank_rows(difficulty, direction, rng(seed)).tolist()
        assert (sorted(ranked[:4]), sorted(ranked[4:])) == (easy, hard)
        firsts.append(ranked[0])
    counts = np.bincount(firsts)[easy]
    assert counts.min() > 60, "each of the four is first a hundred times, or nearly"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 9))
def test_a_ranking_names_every_row_once_and_the_seed_decides_it(difficulty, seed):
    difficulty = np.array(difficulty, dtype=float)
    ranked = rank_rows(difficulty, "easy_first", rng(seed))
    assert sorted(ranked) == list(range(len(difficulty)))
    assert (np.diff(difficulty[ranked]) >= 0).all()
    assert ranked.tolist() == rank_rows(difficulty, "easy_first", rng(seed)).tolist()


totals = st.integers(1, 120)
batch_sizes = st.integers(1, 20)


def drawn(total, num_rows, batch, window, seed=0):
    return draw_rows(np.arange(total), num_rows, batch, window, rng(seed))


@settings(max_examples=40, deadline=None)
@given(totals, batch_sizes, st.integers(0, 5))
def test_with_everything_in_use_an_epoch_is_a_shuffled_pass(total, batch, seed):
    assert sorted(drawn(total, total, batch, lambda time: (0.0, 1.0), seed)) == list(range(total))


@settings(max_examples=40, deadline=None)
@given(totals, st.integers(1, 400), batch_sizes, st.floats(0.01, 1.0), st.booleans())
def test_only_the_rows_of_the_window_are_drawn_as_it_moves(total, num_rows, batch, start, leave_behind):
    def window(time):
        share = start + (1 - start) * time
        return (share - start if leave_behind else 0.0), share

    rows = drawn(total, num_rows, batch, window)
    batches = -(-num_rows // batch)
    stride = max(1, batches // MOVES)
    fewest = min(batch, total)
    seen = set()
    for move in range(0, batches, stride):
        low, high = (round(share * total) for share in window(move / batches))
        high = max(high, fewest)
        allowed = set(range(max(min(low, high - fewest), 0), high))
        for row in rows[move * batch : (move + stride) * batch].tolist():
            if allowed <= seen:  # the window is used up, and may come again
                seen -= allowed
            assert row in allowed
            assert row not in seen, "drawn again before the whole window was"
            seen.add(row)
        if allowed <= seen:
            seen -= allowed


def test_a_window_narrower_than_a_batch_holds_a_batch():
    rows = drawn(100, 40, 8, lambda time: (0.0, 0.001))
    assert set(rows.tolist()) == set(range(8))
    rows = drawn(100, 40, 8, lambda time: (0.999, 1.0))
    assert set(rows.tolist()) == set(range(92, 100))


def test_the_window_moves_at_most_a_hundred_times_in_a_long_epoch():
    times = []

    def window(time):
        times.append(time)
        return 0.0, 1.0

    drawn(5000, 5000, 4, window)  # 1,250 batches: a move every 12th
    assert len(times) == -(-1250 // 12)
    assert times == sorted(times)
    assert times[0] == 0.0
    assert times[-1] < 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array))
def test_every_part_of_the_ranking_holds_the_classes_in_their_shares(seed, classes):
    difficulty = np.random.default_rng(seed).normal(size=len(classes)) + 100 * classes
    ranked = rank_rows(difficulty, "easy_first", np.random.default_rng(seed), classes)
    assert sorted(ranked.tolist()) == list(range(len(classes)))
    for label in np.unique(classes):
        members = difficulty[ranked][classes[ranked] == label]
        assert (np.diff(members) >= 0).all(), "within a class by difficulty"
        for part in range(1, len(classes) + 1):
            shown = (classes[ranked[:part]] == label).sum()
            assert abs(shown - part * (classes == label).mean()) <= len(np.unique(classes))
