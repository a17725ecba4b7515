"""Tokens and runs of tokens as rows of one table: single tokens by their id, longer runs by a hash.

Shapes: B samples, S tokens, K keys of a sample, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ngram_rows", "num_rows", "runs_of", "table_rows"]

# Odd multipliers and shifts in the manner of splitmix64 (Steele, Lea, Flood 2014): neighbouring token ids must not
# land in neighbouring buckets. As signed numbers, since integers here are signed 64-bit numbers that wrap around.
STEP = -7046029254386353131  # 0x9E3779B97F4A7C15
MIX = (-4658895280553007687, -7723592293110705685)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def num_rows(vocabulary: int, ngram: int, buckets: int) -> int:
    """Rows of a table of single tokens and, if `ngram` is more than 1, of hashed runs of 2..ngram tokens."""
    return vocabulary + (buckets if ngram > 1 else 0)


def hash_runs(tokens: Tensor, n: int, buckets: int) -> Tensor:
    """Bucket of every run of n tokens, (..., S-n+1) int64 in [0, buckets).

    Args:
        tokens: Token ids, (..., S) int64; S is at least n.
        n: At least 2. Runs of different length do not share their hashes.
        buckets: Number of buckets.
    """
    length = tokens.shape[-1] - n + 1
    mixed = torch.full_like(tokens[..., :length], n)
    for place in range(n):
        mixed = _scramble(mixed * STEP + tokens[..., place : place + length])
    return (mixed & 0x7FFFFFFFFFFFFFFF) % buckets


def _scramble(x: Tensor) -> Tensor:
    # `>>` keeps the sign: the mask makes it a shift of an unsigned number.
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * MIX[0]
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * MIX[1]
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def table_rows(tokens: Tensor, vocabulary: int, n: int, buckets: int) -> Tensor:
    """The table's row of every run of n tokens, (..., S-n+1) int64. Ids of no token of the vocabulary give -1.

    Args:
        tokens: Token ids, (..., S) int64.
        vocabulary: V; rows 0..V-1 are the single tokens'.
        n: Length of the runs, at least 1.
        buckets: Rows V..V+buckets-1 are those of longer runs.
    """
    known = (tokens >= 0) & (tokens < vocabulary)
    if n == 1:
        return torch.where(known, tokens, -1)
    known = runs_of(known, n)
    return torch.where(known, vocabulary + hash_runs(tokens, n, buckets), -1)


def runs_of(flags: Tensor, n: int) -> Tensor:
    """Whether all of n tokens in a row are flagged, (..., S-n+1) bool.

    Args:
        flags: (..., S) bool.
        n: At least 1.
    """
    length = flags.shape[-1] - n + 1
    together = flags[..., :length]
    for place in range(1, n):
        together = together & flags[..., place : place + length]
    return together


def ngram_rows(
    tokens: Tensor, attended: Tensor, special: Tensor | None, vocabulary: int, ngram: int, buckets: int
) -> Tensor:
    """The table's rows for the runs of 1..ngram tokens of a batch, (B, K) int64.

    -1 stands for a run that the table does not know (an id of another vocabulary, a special token), -2 for none
    (padding).

    Args:
        tokens: Token ids, (B, S) int64.
        attended: (B, S) bool, false for padding.
        special: (B, S) bool, true for special tokens; None where they are not told apart.
        vocabulary: V.
        ngram: Longest run.
        buckets: Rows for the longer runs.
    """
    parts = []
    for n in range(1, min(ngram, tokens.shape[-1]) + 1):
        rows = table_rows(tokens, vocabulary, n, buckets)
        if special is not None:
            rows = torch.where(runs_of(~special, n), rows, -1)
        parts.append(torch.where(runs_of(attended, n), rows, -2))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
