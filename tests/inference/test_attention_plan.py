"""Groups of rows that attend together: every token reads its own row, and nothing else."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mebert.inference import attention_plan
from mebert.inference.attention_plan import LANES, attend, plan_attention, rounded_up


def who_reads_what(plan, tokens):
    """For every packed token the packed tokens that it sees, by a stand-in for attention."""

    def attend(packed, group):
        numbers = packed.view(group.rows, group.tokens).long()
        hidden = torch.zeros(group.rows, group.tokens) if group.mask is None else group.mask[:, 0, 0].float()
        seen = torch.zeros(group.rows, group.tokens, tokens)
        for row in range(group.rows):
            read = numbers[row][hidden[row] == 0]
            seen[row, :, read] += 1.0
        return seen.flatten(0, 1)

    return plan.run(torch.arange(tokens).float().unsqueeze(1), attend)


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
    st.sampled_from([None, 64, 2048, 2**15]),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.booleans(),
)
def test_every_token_reads_its_own_row_once(lengths, scores, dtype, with_holes):
    spans = np.array(lengths)
    mask = torch.from_numpy((np.arange(spans.max()) < spans[:, None]).astype(np.int64))
    holes = np.zeros(len(spans), dtype=bool)
    if with_holes and spans[0] > 1:
        mask[0, 0] = 0
        holes[0] = True
    tokens = int(spans.sum())
    seen = who_reads_what(plan_attention(spans, mask, holes, dtype, scores), tokens)
    row = np.repeat(np.arange(len(spans)), spans)
    expected = torch.from_numpy((row[:, None] == row[None, :]).astype(np.float32))
    if holes[0]:
        expected[:, 0] = 0
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize("lengths", [[40, 8, 8, 8, 7, 30, 3], [33] * 5, [64] * 5])
def test_shapes_in_bfloat16_are_few(lengths):
    spans = np.array(lengths)
    mask = torch.from_numpy((np.arange(spans.max()) < spans[:, None]).astype(np.int64))
    groups = plan_attention(spans, mask, np.zeros(len(spans), dtype=bool), torch.bfloat16, 2048).groups
    assert all(group.tokens % LANES == 0 for group in groups)
    assert all(group.rows & (group.rows - 1) == 0 for group in groups)
    assert all(group.rows == 1 or group.rows * group.tokens**2 <= 2048 for group in groups)


def test_one_row_is_left_as_it_is():
    (group,) = plan_attention(np.array([7]), torch.ones(1, 7), np.array([False]), torch.bfloat16, 2**15).groups
    assert (group.rows, group.tokens, group.pad, group.mask) == (1, 7, None, None)


@given(st.integers(1, 3), st.integers(1, 75), st.booleans(), st.integers(0, 2**16))
def test_it_is_attention(batch, tokens, masked, seed):
    generator = torch.Generator().manual_seed(seed)
    heads, width = 2, 8
    qkv = torch.randn(batch, tokens, 3, heads, width, generator=generator).bfloat16().permute(2, 0, 3, 1, 4)
    mask = None
    if masked:
        lengths = torch.randint(1, tokens + 1, (batch,), generator=generator)
        mask = torch.zeros(batch, 1, 1, tokens, dtype=torch.bfloat16)
        mask.masked_fill_((torch.arange(tokens) >= lengths[:, None])[:, None, None], float("-inf"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_plan, "FEWEST_SCORES", 0)
        found = attend(*qkv, mask)
    expected = F.scaled_dot_product_attention(*qkv.float(), attn_mask=None if mask is None else mask.float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)


def test_large_and_small_scores_stay_finite():
    query = torch.full((1, 12, 40, 32), 300.0, dtype=torch.bfloat16)
    for sign in (1, -1):
        assert attend(query, sign * query, query, None).isfinite().all()


def test_memory_is_bounded(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("scores were written to memory at once")

    monkeypatch.setattr(torch, "bmm", refuse)
    monkeypatch.setattr(attention_plan, "MOST_SCORES", 20_000)
    query = torch.randn(1, 12, 64, 8).bfloat16()
    assert attend(query, query, query, None).shape == query.shape


@settings(max_examples=60)
@given(st.integers(1, 20_000))
def test_bfloat16_tokens_are_filled_up_by_a_sixteenth_at_most(tokens):
    hidden = torch.ones(tokens, 1, dtype=torch.bfloat16)
    filled = rounded_up(hidden)
    assert tokens <= len(filled) < tokens + max(LANES, tokens / 16 + 1)
    assert torch.equal(filled[:tokens], hidden)
    assert not filled[tokens:].any()
    assert rounded_up(hidden.float()).shape == hidden.shape, "only where each number of tokens costs generated code"


def test_few_numbers_of_bfloat16_tokens_are_left():
    found = {len(rounded_up(torch.ones(tokens, 1, dtype=torch.bfloat16))) for tokens in range(1, 4097)}
    assert len(found) <= 64
