"""FastBERT's classifier against PyTorch's own multi-head attention over all tokens."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_batch, tiny_model
from torch import nn

from mebert.models.fastbert_pooling import FastBertPooling


def plain_attention(pooling: FastBertPooling, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The same weights in `nn.MultiheadAttention`, every token's query, key and value computed; the first token's."""
    plain = nn.MultiheadAttention(128, 2, batch_first=True)
    with torch.no_grad():
        plain.in_proj_weight.copy_(torch.cat([pooling.query.weight, pooling.key.weight, pooling.value.weight]))
        # Any bias of the keys moves all scores of a query alike.
        plain.in_proj_bias.copy_(torch.cat([pooling.query.bias, torch.randn(128), pooling.value.bias]))
        plain.out_proj.weight.copy_(pooling.output.weight)
        plain.out_proj.bias.copy_(pooling.output.bias)
    tokens = torch.tanh(pooling.project(hidden))
    return plain(tokens, tokens, tokens, key_padding_mask=mask == 0, need_weights=False)[0][:, 0]


@pytest.mark.parametrize("padded", [False, True])
def test_equals_multi_head_attention_over_all_tokens(padded):
    torch.manual_seed(0)
    pooling = FastBertPooling(32)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.mul_(3)  # attention far from uniform
    hidden = torch.randn(5, 9, 32)
    mask = tiny_batch(padded=padded)["attention_mask"]
    expected = plain_attention(pooling, hidden, mask)
    torch.testing.assert_close(pooling(hidden, mask), expected, rtol=1e-5, atol=1e-5)
    uniform = pooling(hidden, torch.ones_like(mask))
    assert padded == (not torch.allclose(uniform, expected, atol=1e-3))


def test_folded_for_inference_it_is_the_same_function_at_the_same_cost():
    model = tiny_model(pooling="fastbert")
    batch, hidden = tiny_batch(), torch.randn(5, 9, 32)
    pooling = model.exit(0).pooling
    folded = pooling.folded()
    mask = batch["attention_mask"]
    with torch.no_grad():
        torch.testing.assert_close(folded(hidden, mask), pooling(hidden, mask), rtol=1e-4, atol=1e-5)
        assert folded.to(torch.bfloat16)(hidden.bfloat16(), mask).dtype == torch.bfloat16
    assert torch.equal(folded.flops(mask.sum(1)), pooling.flops(mask.sum(1)))
