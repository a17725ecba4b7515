"""Packed rows: the blocks that run together, and what is not computed for rows that wait."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import SIZES, tiny_batch, tiny_encoder, tiny_model

from mebert.inference import make_engine, prepare_model
from mebert.inference.engine import run_engine
from mebert.inference.packed_state import BLOCK_TOKENS, Layout, Planner
from mebert.models import MultiExitModel
from mebert.policies import policy_by_name


def no_bias(tokens):
    return None


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Blocks grow with the threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 1)
        yield


@pytest.mark.parametrize(("threads", "blocks"), [(1, 8), (2, 8), (4, 4), (16, 1)])
def test_more_threads_have_larger_blocks(threads, blocks, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    mask = torch.ones(80, 10, dtype=torch.long)
    layout = Layout(mask.sum(1).numpy(), np.zeros(80, dtype=bool), mask, torch.float32, Planner(no_bias, None, 100))
    assert len(layout.blocks) == blocks


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_blocks_are_neighbours_of_about_as_many_tokens(lengths, tokens):
    spans = np.array(lengths)
    mask = torch.from_numpy((np.arange(spans.max()) < spans[:, None]).astype(np.int64))
    layout = Layout(spans, spans % 2 == 0, mask, torch.float32, Planner(no_bias, None, tokens))
    assert [int(n) for block in layout.blocks for n in block.spans] == lengths
    assert [bool(one) for block in layout.blocks for one in block.holes] == [n % 2 == 0 for n in lengths]
    for block in layout.blocks:
        assert block.mask.shape == (len(block.spans), block.spans.max())
        assert block.mask.sum(1).tolist() == block.spans.tolist()
        assert block.spans.sum() < tokens + spans.max()


@pytest.mark.parametrize("family", list(SIZES))
@torch.no_grad()
def test_rows_in_blocks_answer_as_all_together(family):
    fast = prepare_model(MultiExitModel(tiny_encoder(family), 3))
    batch = tiny_batch(9, tokens=12)
    batch["attention_mask"][2, 0] = 0  # padding on the left
    fast.adapter.planner = replace(fast.adapter.planner, tokens=None)
    expected = fast(**batch)
    fast.adapter.planner = replace(fast.adapter.planner, tokens=25)
    assert len(fast.start(**batch).layout.blocks) > 2
    found = fast(**batch)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.features, expected.features, atol=1e-5, rtol=1e-4)


def test_blocks_are_for_a_cpu_without_compilation():
    model = tiny_model()
    assert prepare_model(model).adapter.planner.tokens == BLOCK_TOKENS
    assert prepare_model(model, device="meta").adapter.planner.tokens is None


@pytest.mark.parametrize("engine", ["shrink", "refill", "full"])
def test_a_batch_is_planned_once_however_often_its_rows_are_chosen(engine, monkeypatch):
    fast, planned, ran = prepare_model(tiny_model()), [], []
    policy = policy_by_name("entropy")(threshold=0.999).bind(fast)
    plan, run = Planner.plan, type(fast.adapter)._run

    def count_plan(self, layout):
        planned.append(len(layout.spans))
        return plan(self, layout)

    def count_run(self, *given):
        ran.append(given)
        return run(self, *given)

    monkeypatch.setattr(Planner, "plan", count_plan)
    monkeypatch.setattr(type(fast.adapter), "_run", count_run)
    batches = [(tiny_batch(6), torch.arange(6) + 6 * number) for number in range(4)]
    run_engine(make_engine(engine, fast, policy, batch_size=4), batches)
    assert 0 < len(planned) <= len(ran)
