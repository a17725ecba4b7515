"""Which rows of a packed batch attend together: groups of similar length, small enough for the processor's cache.

Shapes: B batch, S tokens of the longest row, T packed tokens, n rows of a group, W tokens of its longest row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FEWEST_SCORES, MOST_SCORES = 12_500, 2**25
"""Scores (B A S S) from which plain products are worth more than one call, and most that are held at once (64 MB)."""

LANES = 32
"""bfloat16 numbers in a vector register of 512 bits; softmax computes the remainder of a row one by one. Groups in
bfloat16 on a CPU have multiples of this as widths and powers of two as numbers of rows, because each new shape of a
batched product costs a third of a millisecond (oneDNN generates code for it)."""

WORTH_FILLING = 8
"""Remainder from which on padding to a full register is faster; measured by benchmarks/attention.py."""

CACHED_SCORES = 2**15
"""Scores of one attention head (n W W) in a group on a CPU; measured by benchmarks/attention.py --groups."""


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float | None = None) -> Tensor:
    """softmax(scale query key^T + mask) value: queries (B, A, S, D), keys and values (B, A, S', D).

    The mask is in the query's dtype: (B, 1, 1, S'), or with a bias by position (1 or B, 1 or A, S, S'). Without a
    `scale` it is 1 / sqrt(D).

    In bfloat16 on a CPU plain products are used, which took a fraction of the time of PyTorch's fused kernel
    (benchmarks/attention.py); the fused kernel is used otherwise, and for very small or very large inputs.
    """
    batch, heads, tokens, width = query.shape
    seen = key.shape[2]
    worth = FEWEST_SCORES <= batch * heads * tokens * seen <= MOST_SCORES
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or not worth:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    over = seen % LANES
    filled = seen if over < WORTH_FILLING else seen + LANES - over
    if filled > seen:
        mask = query.new_zeros(batch, 1, 1, seen) if mask is None else mask
        mask = F.pad(mask, (0, filled - seen), value=float("-inf"))
        key, value = (F.pad(x, (0, 0, 0, filled - seen)) for x in (key, value))
    query, key, value = (x.reshape(batch * heads, -1, width) for x in (query, key, value))
    scale = width**-0.5 if scale is None else scale
    if mask is None:
        scores = torch.bmm(query, key.transpose(1, 2)).mul_(scale)
    elif mask.shape[2] > 1:
        scores = torch.bmm(query, key.transpose(1, 2)).view(batch, heads, tokens, filled)
        scores = torch.add(mask, scores, alpha=scale, out=scores).view(batch * heads, tokens, filled)
    else:
        hidden = mask.expand(batch, heads, 1, filled).reshape(batch * heads, 1, filled)
        scores = torch.baddbmm(hidden, query, key.transpose(1, 2), alpha=scale)
    return torch.bmm(scores.softmax(-1), value).view(batch, heads, tokens, width)


@dataclass
class AttentionGroup:
    """Rows that attend together, padded to the longest of them.

    Attributes:
        rows: n, dummy rows included.
        tokens: W, padding to a multiple of `LANES` included.
        first: First packed token of the group, if `pad` is None: its tokens are contiguous and need no padding.
        pad: For every place of the padded rows its packed token, (n W,), any token for padding.
        mask: Added to attention scores, (n, 1, 1, W), or with a bias (1 or n, A, W, W); None: nothing is added.
    """

    rows: int
    tokens: int
    first: int = 0
    pad: Tensor | None = None
    mask: Tensor | None = None


@dataclass
class AttentionPlan:
    """All groups of a batch, at least one, in the order in which they are computed."""

    groups: list[AttentionGroup]
    back: Tensor | None = None  # for every packed token its place in the outputs of all groups (T,); None: the same
    spans: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # tokens of each row (B,)

    @cached_property
    def positions(self) -> Tensor:
        """The place of every packed token in its row, (T,), on the host."""
        return torch.from_numpy(ranges(np.zeros_like(self.spans), self.spans))

    def run(self, packed: Tensor, attend: Callable[[Tensor, AttentionGroup], Tensor]) -> Tensor:
        """Attention over packed tokens (T, D), (T, D'), by `attend` over the padded tokens of each group (n W, D).

        Rows after the tokens of the plan, which `rounded_up` adds, are zeros in the result.
        """
        parts = []
        for group in self.groups:
            if group.pad is not None:
                tokens = packed.index_select(0, group.pad)
            else:
                tokens = packed.narrow(0, group.first, group.rows * group.tokens)
            parts.append(attend(tokens, group))
        read = parts[0] if len(parts) == 1 else torch.cat(parts)
        found = read if self.back is None else read.index_select(0, self.back)
        return found if len(found) == len(packed) else F.pad(found, (0, 0, 0, len(packed) - len(found)))


def rounded_up(hidden: Tensor) -> Tensor:
    """Packed tokens (T, H) with zeros after them: few different T, in bfloat16 on a CPU.

    There each new T costs every projection milliseconds (oneDNN generates code for it), and early exit makes a new
    one after each layer. At most a sixteenth of the rows, or `LANES` of them, are filling.
    """
    if hidden.device.type != "cpu" or hidden.dtype != torch.bfloat16:
        return hidden
    step = max(LANES, (1 << len(hidden).bit_length()) // 32)
    missing = -len(hidden) % step
    return F.pad(hidden, (0, 0, 0, missing)) if missing else hidden


def plan_attention(
    spans: np.ndarray,
    mask: Tensor,
    holes: np.ndarray,
    dtype: torch.dtype,
    scores: int | None = CACHED_SCORES,
    bias: Callable[[int], Tensor | None] | None = None,
) -> AttentionPlan:
    """Put rows of similar length together.

    `spans` are the tokens of each row (B,), on the host; `holes` says whether a row has masked tokens within its span
    (B,). The mask (B, S or longer) is the tokenizer's, `dtype` that of the scores. A group may have `scores` of one
    attention head, and has at least one row; None puts all rows into one group. `bias` gives what is added to the
    scores of texts of so many tokens, (1, A, W, W), which is done once a group.
    """
    batch = len(spans)
    if not batch:
        return AttentionPlan([AttentionGroup(0, 0)])
    starts = np.cumsum(spans) - spans
    longest = int(spans.max())
    shaped = scores is not None and dtype == torch.bfloat16
    lanes = LANES if shaped else 1
    equal = bool((spans == longest).all()) and not holes.any() and (batch == 1 or longest % lanes == 0)
    order = np.arange(batch) if equal else np.argsort(-spans, kind="stable")
    groups: list[AttentionGroup] = []
    place = 0  # among the padded outputs of all groups
    back = np.zeros(0 if equal else int(spans.sum()), dtype=np.int64)
    first = 0
    while first < batch:
        width = -(-int(spans[order[first]]) // lanes) * lanes if not equal else longest
        most = batch if scores is None else max(1, scores // (width * width))
        size = min(batch - first, 1 << (most.bit_length() - 1) if shaped else most)  # a power of two
        rows = order[first : first + size]
        if equal:
            groups.append(AttentionGroup(size, width, int(starts[rows[0]]), mask=None if bias is None else bias(width)))
        else:
            own = spans[rows]
            tokens = ranges(starts[rows], own)
            places = ranges(np.arange(size) * width, own)
            padded = 1 << (size - 1).bit_length() if shaped else size  # the outputs of dummy rows are not used
            pad = np.zeros(padded * width, dtype=np.int64)
            pad[places] = tokens
            back[tokens] = place + places
            hidden = None
            if bool((own != width).any()) or holes[rows].any():
                seen = np.zeros((padded, width), dtype=bool)
                seen.ravel()[places] = True
                seen[size:] = True
                hidden = ~torch.from_numpy(seen).to(mask.device)
                if holes[rows].any():
                    given = mask.index_select(0, torch.from_numpy(rows).to(mask.device))[:, :width] == 0
                    hidden[:size, : given.shape[1]] |= given
            on_device = torch.from_numpy(pad).to(mask.device)
            added = None
            if hidden is not None:
                added = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
                added = added.masked_fill_(hidden, float("-inf"))[:, None, None, :]
            if bias is not None and (own_bias := bias(width)) is not None:
                added = own_bias if added is None else added + own_bias
            groups.append(AttentionGroup(padded, width, 0, on_device, added))
            place += padded * width
        first += size
    return AttentionPlan(groups, None if equal else torch.from_numpy(back).to(mask.device), spans)


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The numbers from each start on, one range after the other.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - sizes), sizes)
