"""N-grams of tokens as rows of one table: single tokens by their id, longer runs by a hash.

Shapes: B samples, S tokens, K keys of a sample, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Odd multipliers and shifts as in splitmix64 (Steele, Lea, Flood 2014), so that neighbouring token ids do not land in
# neighbouring buckets. As signed numbers, because PyTorch's integers are signed 64-bit numbers that wrap around.
STEP = -7046029254386353131  # 0x9E3779B97F4A7C15
MIX = (-4658895280553007687, -7723592293110705685)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def hash_runs(tokens: Tensor, n: int, buckets: int) -> Tensor:
    """Bucket of every run of n >= 2 tokens of (..., S), (..., S-n+1) int64; each n has its own hash function."""
    length = tokens.shape[-1] - n + 1
    mixed = torch.full_like(tokens[..., :length], n)
    for place in range(n):
        x = mixed * STEP + tokens[..., place : place + length]
        # `>>` keeps the sign: the mask makes it a shift of an unsigned number.
        x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * MIX[0]
        x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * MIX[1]
        mixed = x ^ ((x >> 31) & 0x1FFFFFFFF)
    return (mixed & 0x7FFFFFFFFFFFFFFF) % buckets


def table_rows(tokens: Tensor, vocabulary: int, n: int, buckets: int) -> Tensor:
    """The table's row of every run of n tokens of (..., S), (..., S-n+1) int64; -1 for ids outside of the vocabulary.

    Rows 0..V-1 are those of single tokens, the `buckets` rows after them those of longer runs.
    """
    known = (tokens >= 0) & (tokens < vocabulary)
    if n == 1:
        return torch.where(known, tokens, -1)
    return torch.where(runs_of(known, n), vocabulary + hash_runs(tokens, n, buckets), -1)


def runs_of(flags: Tensor, n: int) -> Tensor:
    """Whether all of n consecutive tokens are flagged: (..., S) to (..., S-n+1) bool."""
    length = flags.shape[-1] - n + 1
    together = flags[..., :length]
    for place in range(1, n):
        together = together & flags[..., place : place + length]
    return together


def ngram_rows(
    tokens: Tensor, attended: Tensor, special: Tensor | None, vocabulary: int, ngram: int, buckets: int
) -> Tensor:
    """The table's rows for the runs of 1..ngram tokens of a batch, (B, K) int64.

    -1 stands for a run that is not in the table (an id outside of the vocabulary, a special token), -2 for padding.
    Masks are (B, S) bool; `attended` is false for padding, `special` may be unknown.
    """
    parts = []
    for n in range(1, min(ngram, tokens.shape[-1]) + 1):
        rows = table_rows(tokens, vocabulary, n, buckets)
        if special is not None:
            rows = torch.where(runs_of(~special, n), rows, -1)
        parts.append(torch.where(runs_of(attended, n), rows, -2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
