"""Static exits by the frequency of a text's tokens: only token counts are fitted.

Shapes: B samples, S tokens, E exits, V vocabulary, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from mebert.errors import check_range
from mebert.exit_predictor.base import MOST, ExitPredictor, TokenEvidence

Equal = Literal["types", "occurrences"]


def frequency_buckets(counts: Tensor, num_buckets: int, equal: Equal = "types") -> Tensor:
    """The bucket of every token, (V,) int64 from 0: frequent tokens first. A token that never occurs is in the last.

    Tokens are ordered by their counts (V,), of equals the one with the smaller id first. `types` (HashEE, EXACT but for
    the order of equals) puts n = floor(V' / E) of the V' tokens that occur (at least 1) into each bucket, the rest into
    the last; `occurrences` puts a token into the bucket that contains the middle of its occurrences.
    """
    order = counts.argsort(descending=True, stable=True)
    sorted_counts = counts[order]
    if equal == "types":
        size = max(int((counts > 0).sum()) // num_buckets, 1)
        found = (torch.arange(len(counts)) // size).clamp(max=num_buckets - 1)
    else:  # twice the middle, so that all numbers are integers
        middles = 2 * sorted_counts.cumsum(0) - sorted_counts
        found = (num_buckets * middles) // (2 * sorted_counts.sum()).clamp(min=1)
    buckets = torch.full_like(counts, num_buckets - 1)
    buckets[order] = torch.where(sorted_counts > 0, found, num_buckets - 1)
    return buckets


class FrequencyExitPredictor(ExitPredictor):
    """The shares of a text's tokens whose frequency bucket is each exit's: no labels, no exit test, no adaptive run.

    After HashEE (Sun et al., "A Simple Hash-Based Early Exiting Approach For Language Understanding and Generation",
    Findings of ACL 2022): every token has a fixed exit layer before anything runs, the frequent ones the first, special
    and unseen ones the last; buckets hold equally many token types (EXACT). There single tokens stop and the others go
    on; here whole texts leave at the exit by which the share `coverage` of their tokens would have (RECONSTRUCTED). The
    coverage is chosen for a wanted speed-up.

    Args:
        num_exits: E.
        vocab_size: V; an id beyond it counts as a token that never occurred.
        coverage: As in `ExitPredictor`.
        equal: What buckets hold equally many of: `types` as HashEE, or `occurrences` as mebert 0.1.0.
    """

    stored_defaults: ClassVar = {"equal": "occurrences"}
    reads: ClassVar[str] = "the shares of the text's tokens in each exit's frequency bucket"

    def __init__(self, num_exits: int, vocab_size: int, coverage: float | None = None, equal: Equal = "types") -> None:
        super().__init__(num_exits, coverage)
        check_range("vocab_size", vocab_size, 1, MOST)
        self.vocab_size = vocab_size
        self.equal: Equal = equal
        self.counts = torch.zeros(vocab_size, dtype=torch.int64)  # on the CPU: only `buckets` is needed to predict
        self.buckets: Tensor
        last = torch.full((vocab_size,), num_exits - 1, dtype=torch.int64)
        self.register_buffer("buckets", last, persistent=False)

    def fit(self, tokens: Tensor, special_ids: Sequence[int] = ()) -> Self:
        """Count all samples' tokens (ids, one after the other) but special ones; earlier counts are replaced."""
        known = tokens[(tokens >= 0) & (tokens < self.vocab_size)]
        counts = torch.bincount(known.long().cpu(), minlength=self.vocab_size)
        counts[[number for number in special_ids if number < self.vocab_size]] = 0
        return self._set(counts)

    def distribution(
        self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None
    ) -> Tensor:
        attended = attention_mask.bool()
        if special_tokens_mask is not None:
            attended = attended & ~special_tokens_mask.bool()
        counts = torch.zeros(input_ids.shape[0], self.num_exits, device=input_ids.device)
        counts.scatter_add_(1, self._bucket_of(input_ids), attended.float())
        return self._shares(counts)

    def distribution_of_rows(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """`distribution` of concatenated samples that start at `offsets` (N+1,), (N, E) float32."""
        rows = len(offsets) - 1
        sample = torch.repeat_interleave(torch.arange(rows), offsets.diff())
        places = sample * self.num_exits + self._bucket_of(tokens.long())
        counts = torch.bincount(places, minlength=rows * self.num_exits).view(rows, self.num_exits)
        return self._shares(counts.float())

    def of_tokens(self, tokens: Tensor) -> TokenEvidence:
        return self.evidence(tokens, self.counts)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "vocab_size": self.vocab_size, "equal": self.equal}

    def tensors(self) -> dict[str, Tensor]:
        rows = self.counts.nonzero().squeeze(1)
        return {"rows": rows.int(), "counts": self.counts[rows]}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        self._set(torch.zeros_like(self.counts).index_copy_(0, tensors["rows"].long(), tensors["counts"].long()))

    def _set(self, counts: Tensor) -> Self:
        self.counts = counts
        self.buckets = frequency_buckets(counts, self.num_exits, self.equal).to(self.buckets.device)
        return self

    def _bucket_of(self, tokens: Tensor) -> Tensor:
        known = (tokens >= 0) & (tokens < self.vocab_size)
        return torch.where(known, self.buckets[tokens.clamp(0, self.vocab_size - 1)], self.num_exits - 1)

    def _shares(self, counts: Tensor) -> Tensor:
        """Rows normalised to sum to 1; a text without tokens takes the last exit."""
        total = counts.sum(-1, keepdim=True)
        nothing = torch.zeros_like(counts)
        nothing[:, -1] = 1.0
        return torch.where(total > 0, counts / total.clamp(min=1), nothing)
