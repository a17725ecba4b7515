"""Attention by plain products is the attention of PyTorch, for rows of any length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from mebert.inference import attention_plan as attention


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
        patch.setattr(attention, "FEWEST_SCORES", 0)
        found = attention.attend(*qkv, mask)
    expected = F.scaled_dot_product_attention(*qkv.float(), attn_mask=None if mask is None else mask.float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)


def test_large_and_small_scores_stay_finite():
    query = torch.full((1, 12, 40, 32), 300.0, dtype=torch.bfloat16)
    for sign in (1, -1):
        assert attention.attend(query, sign * query, query, None).isfinite().all()


def test_memory_is_bounded(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("scores were written to memory at once")

    monkeypatch.setattr(torch, "bmm", refuse)
    monkeypatch.setattr(attention, "MOST_SCORES", 20_000)
    query = torch.randn(1, 12, 64, 8).bfloat16()
    assert attention.attend(query, query, query, None).shape == query.shape
