"""Attention for inference on the CPU in bfloat16, where two batched products beat PyTorch's fused kernel.

Shapes: B batch, A attention heads, S tokens, W tokens with what is filled up, D width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["attend"]

FEWEST_SCORES, MOST_SCORES = 12_500, 2**25
"""Scores (B A S S) worth more than one call, and as many as may be in memory at once (64 MB)."""

LANES = 32
"""bfloat16 numbers in a vector register of 512 bits: the softmax of a row does what is left over one by one."""
WORTH_FILLING = 8
"""Numbers left over from which on filling up the register is faster; both measured by benchmarks/attention.py."""


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(query key^T / sqrt(D) + mask) value, (B, A, S, D).

    PyTorch's fused kernel for the CPU is made for float32; in bfloat16 it took several times as long as the plain
    products (benchmarks/attention.py). Elsewhere it is what is used, and where there is next to nothing to compute.

    Args:
        query: (B, A, S, D); `key` and `value` likewise.
        key: See there.
        value: See there.
        mask: What is added to the scores, (B, 1, 1, S) in the type of the query; None: nothing is hidden.
    """
    batch, heads, tokens, width = query.shape
    worth = FEWEST_SCORES <= batch * heads * tokens * tokens <= MOST_SCORES
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or not worth:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    over = tokens % LANES
    filled = tokens if over < WORTH_FILLING else tokens + LANES - over
    if filled > tokens:
        mask = query.new_zeros(batch, 1, 1, tokens) if mask is None else mask
        mask = F.pad(mask, (0, filled - tokens), value=float("-inf"))
        key, value = (F.pad(x, (0, 0, 0, filled - tokens)) for x in (key, value))
    query, key, value = (x.reshape(batch * heads, -1, width) for x in (query, key, value))
    scale = width**-0.5
    if mask is None:
        scores = torch.bmm(query, key.transpose(1, 2)).mul_(scale)
    else:
        hidden = mask.expand(batch, heads, 1, filled).reshape(batch * heads, 1, filled)
        scores = torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(-1), value).view(batch, heads, tokens, width)
