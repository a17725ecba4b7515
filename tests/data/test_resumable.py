"""Any epoch, cut anywhere, gives the batches of the whole one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import SequentialSampler

from mebert.data.resumable import ResumableLoader
from mebert.data.samplers import LengthGroupedSampler


def make_loader(rows=50, batch_size=4, world=1, rank=0, workers=0, **settings):
    sampler = LengthGroupedSampler(np.arange(rows) % 7, batch_size, world, rank)
    generator = torch.Generator().manual_seed(0)
    settings = {"sampler": sampler, "generator": generator, "collate_fn": tuple, **settings}
    persistent = workers > 0
    return ResumableLoader(
        range(rows), batch_size=batch_size, num_workers=workers, persistent_workers=persistent, **settings
    )


def cut_and_resume(make, epoch, cut):
    """The batches of an epoch before and after a cut, the latter from a new loader."""
    loader = make()
    batches = iter(loader)  # before the epoch is known, as Lightning does it
    loader.sampler.set_epoch(epoch)
    before = [next(batches) for _ in range(cut)]
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    batches = iter(resumed)
    resumed.sampler.set_epoch(epoch)
    assert len(resumed) == len(loader)
    return before, list(batches), resumed


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 60), st.integers(1, 9), st.integers(0, 3), st.integers(1, 3), st.data())
def test_any_cut_gives_the_same_batches(rows, batch_size, epoch, world, data):
    for rank in range(world):

        def make(rank=rank):
            return make_loader(rows, batch_size, world, rank)

        whole = make()
        whole.sampler.set_epoch(epoch)
        expected = list(whole)
        cut = data.draw(st.integers(0, len(expected)))
        before, after, resumed = cut_and_resume(make, epoch, cut)
        assert before + after == expected
        # Nothing is skipped for a second time.
        resumed.sampler.set_epoch(epoch + 1)
        whole.sampler.set_epoch(epoch + 1)
        assert list(resumed) == list(whole)
        assert resumed.state_dict() == {"epoch": epoch + 1, "batches": len(whole)}


def test_workers_begin_at_the_cut_too():
    expected = make_loader()
    expected.sampler.set_epoch(1)
    before, after, _ = cut_and_resume(lambda: make_loader(workers=2), epoch=1, cut=5)
    assert before + after == list(expected)


def test_the_batches_before_the_cut_are_not_built_again():
    built = []
    loader = make_loader(collate_fn=lambda rows: built.append(rows) or rows)
    loader.load_state_dict({"epoch": 0, "batches": 10})
    assert len(list(loader)) == len(built) == 3


def test_another_epoch_than_that_of_the_state_starts_at_its_front():
    loader = make_loader()
    loader.load_state_dict({"epoch": 0, "batches": 13})
    loader.sampler.set_epoch(1)
    assert len(list(loader)) == 13


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_random_state_is_left_alone(workers):
    before = torch.get_rng_state()
    list(make_loader(workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sampler_of_other_kind_starts_at_its_front():
    """Lightning's own, where `overfit_batches` is given."""
    loader = make_loader(rows=12, sampler=SequentialSampler(range(12)))
    assert next(iter(loader)) == (0, 1, 2, 3)
    loader.load_state_dict(loader.state_dict())
    assert len(list(loader)) == 3
