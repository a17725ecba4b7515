"""What is measured: lengths, texts, batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mebert.commands.bench.texts import LENGTHS, QUANTILES, draw_lengths, make_batches, random_texts
from mebert.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("task", LENGTHS)
def test_lengths_of_a_task_have_its_quantiles(task):
    drawn = draw_lengths(task, 2000, 10_000, seed=3)
    for share, wanted in zip(QUANTILES[1:-1], LENGTHS[task][1:-1], strict=True):
        assert np.quantile(drawn, share) == pytest.approx(wanted, rel=0.03, abs=1)


def test_lengths_by_mean_and_deviation():
    drawn = draw_lengths("60,25", 4000, 10_000, seed=0)
    assert drawn.mean() == pytest.approx(60, rel=0.02)
    assert drawn.std() == pytest.approx(25, rel=0.05)
    assert set(draw_lengths("17", 9, 128, seed=0)) == {17}


def test_long_ones_are_cut_and_the_seed_decides_the_order():
    drawn = draw_lengths("imdb", 100, 128, seed=0)
    assert drawn.max() == 128
    other = draw_lengths("imdb", 100, 128, seed=1)
    assert sorted(drawn) == sorted(other)
    assert drawn.tolist() != other.tolist()


@pytest.mark.parametrize("spec", ["0,1", "12,-1", "1,2,3", ""])
def test_wrong_lengths(spec):
    with pytest.raises(UserError, match="lengths must be one of sst2"):
        draw_lengths(spec, 5, 128, seed=0)


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(1, 40), size=st.integers(1, 9), sort=st.booleans())
def test_batches_hold_every_row_once(samples, size, sort):
    rows = random_texts("snli", samples, 40, 50, seed=samples)
    batches = make_batches(rows, size, 0, CPU, sort)
    numbers = torch.cat([numbers for _, numbers in batches])
    assert sorted(numbers.tolist()) == list(range(samples))
    for inputs, chosen in batches:
        assert len(chosen) <= size
        assert inputs["attention_mask"].sum(1).tolist() == rows.lengths[chosen.numpy()].tolist()
        assert inputs["input_ids"].shape[1] == rows.lengths[chosen.numpy()].max()
        for row, number in enumerate(chosen.tolist()):
            ids = rows[number]["input_ids"]
            assert inputs["input_ids"][row, : len(ids)].tolist() == ids.tolist()
    if sort:
        longest = [int(rows.lengths[chosen.numpy()].max()) for _, chosen in batches]
        assert longest == sorted(longest, reverse=True)
    else:
        assert numbers.tolist() == list(range(samples))


def test_padding_to_a_length():
    rows = random_texts("10,4", 6, 20, 50, seed=0)
    assert {inputs["input_ids"].shape[1] for inputs, _ in make_batches(rows, 2, 0, CPU, False, pad_to=20)} == {20}
