"""GEEP's token-level table of exit layers: the exits taken by the texts with each token.

Shapes: B samples, S tokens, E exits, V vocabulary, R rows of the table (tokens, then buckets), N counted samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from mebert.errors import check_range
from mebert.exit_predictor.base import MOST, MOST_ENTRIES, ExitPredictor, TokenEvidence
from mebert.exit_predictor.ngrams import ngram_rows, table_rows

# Probabilities in the table are multiples of this. Sums of up to 2048 of them are exact in float32, so that a sample's
# distribution, hence its exit, is the same in every batch, whatever the padding.
GRAIN = 2.0**-13

CHUNK = 2000  # samples whose keys are in memory at a time


class TokenExitPredictor(ExitPredictor):
    """The mean over a text's tokens of how often texts with that token left at each exit. RECONSTRUCTED.

    Known of the original: a hash table holds the token-level exit-layer distribution. Here, for the tokens t of a text
    (each occurrence) and, if `ngram` is more than 1, its hashed runs of 2..ngram tokens:

        p_t(e) = (count[t][e] + k g(e)) / (Σ_e count[t][e] + k),   p(e) = mean over t of p_t(e)

    g is the share of samples that left at e, k the `prior_strength`: an unseen token has the distribution g. One
    `embedding_bag` per batch.

    Args:
        num_exits: E.
        vocab_size: V; an id outside of it counts as unseen.
        coverage: As in `ExitPredictor`.
        ngram: Longest run of tokens that is counted, at least 1.
        buckets: Rows that the runs of 2 and more tokens share by their hash; not used if `ngram` is 1.
        prior_strength: k, above 0: the weight of the global shares g, in occurrences.
    """

    reads: ClassVar[str] = "the mean over the text's tokens of the exits taken by texts with that token"

    def __init__(
        self,
        num_exits: int,
        vocab_size: int,
        coverage: float | None = None,
        ngram: int = 1,
        buckets: int = 2**18,
        prior_strength: float = 10.0,
    ) -> None:
        super().__init__(num_exits, coverage)
        for name, value in {"ngram": ngram, "buckets": buckets, "vocab_size": vocab_size}.items():
            check_range(name, value, 1, MOST)
        check_range("prior_strength", prior_strength, 0, low_open=True)
        self.vocab_size = vocab_size
        self.ngram = ngram
        self.buckets = buckets
        self.prior_strength = prior_strength
        # Rows: the counted ones, then "unseen" (the prior alone), then "nothing" (padding: no key at all).
        rows = vocab_size + (buckets if ngram > 1 else 0)
        check_range("num_exits x (vocab_size + buckets)", num_exits * rows, 1, MOST_ENTRIES)
        self.table: Tensor
        self.register_buffer("table", torch.full((rows + 2, num_exits), 1.0 / num_exits), persistent=False)
        self.table[-1] = 0
        self.counts = torch.zeros(rows, num_exits, dtype=torch.int64)  # on the CPU: only `table` is needed to predict
        self.exits = torch.zeros(num_exits, dtype=torch.int64)

    def fit(self, tokens: Tensor, offsets: Tensor, exits: Tensor) -> Self:
        """Count the tokens of samples with the 0-based exits taken (N,); earlier counts are replaced.

        Token ids are those of all samples, one after the other; sample i starts at `offsets[i]` (N+1,) int64.
        """
        rows, samples = self._keys(tokens, offsets)
        flat = torch.bincount(rows * self.num_exits + exits[samples], minlength=self.counts.numel())
        return self._set(flat.view_as(self.counts), torch.bincount(exits, minlength=self.num_exits))

    def leave_one_out(self, tokens: Tensor, offsets: Tensor, exits: Tensor) -> Tensor:
        """The distribution of each fitted sample without its own counts, (N, E); arguments as `fit`.

        A sample's own counts make its exit more probable, most of all if its tokens are rare; a coverage chosen with
        them would not hold for new texts.
        """
        parts = [torch.zeros(0, self.num_exits)]
        for start in range(0, len(exits), CHUNK):
            ends = offsets[start : start + CHUNK + 1]
            own = exits[start : start + CHUNK]
            parts.append(self._without_own(tokens[ends[0] : ends[-1]], ends - ends[0], own))
        return torch.cat(parts)

    def _without_own(self, tokens: Tensor, offsets: Tensor, exits: Tensor) -> Tensor:
        rows, samples = self._keys(tokens, offsets)
        # Occurrences of a key in its sample: as many of the key's counts are the sample's own.
        pairs, times = torch.unique(samples * len(self.counts) + rows, return_counts=True)
        own, key = pairs // len(self.counts), pairs % len(self.counts)
        counts = self.counts[key].double()
        taken = exits[own]
        counts[torch.arange(len(key)), taken] -= times.double()
        share = self.exits.double().expand(len(exits), -1).clone()
        share[torch.arange(len(exits)), exits] -= 1
        share = share / share.sum(1, keepdim=True).clamp(min=1)
        each = self._smoothed(counts, share[own]) * times.unsqueeze(1)
        total = torch.zeros(len(exits), self.num_exits, dtype=torch.float64).index_add_(0, own, each)
        keys = torch.bincount(samples, minlength=len(exits)).unsqueeze(1)
        mean = torch.where(keys > 0, total / keys.clamp(min=1), share)
        return _normalised(mean, share).float()

    def distribution(
        self, input_ids: Tensor, attention_mask: Tensor, special_tokens_mask: Tensor | None = None
    ) -> Tensor:
        special = None if special_tokens_mask is None else special_tokens_mask.bool()
        rows = ngram_rows(input_ids, attention_mask.bool(), special, self.vocab_size, self.ngram, self.buckets)
        unseen = self.table.shape[0] - 2
        rows = torch.where(rows >= 0, rows, unseen - 1 - rows)  # -1 to "unseen", -2 to "nothing"
        total = F.embedding_bag(rows, self.table, mode="sum")
        return _normalised(total, self.table[unseen])

    def of_tokens(self, tokens: Tensor) -> TokenEvidence:
        return self.evidence(tokens, self.counts.sum(1))

    def settings(self) -> dict[str, Any]:
        own = ("vocab_size", "ngram", "buckets", "prior_strength")
        return {**super().settings(), **{name: getattr(self, name) for name in own}}

    def tensors(self) -> dict[str, Tensor]:
        """The counts of the keys that occurred; most of a vocabulary does not."""
        rows = self.counts.any(1).nonzero().squeeze(1)
        return {"rows": rows.int(), "counts": self.counts[rows].int(), "exits": self.exits}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        counts = torch.zeros_like(self.counts).index_copy_(0, tensors["rows"].long(), tensors["counts"].long())
        self._set(counts, tensors["exits"].long())

    def _keys(self, tokens: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """The table's row of every key of every sample, and its sample, both (keys,)."""
        rows, samples = [], []
        tokens = tokens.long()
        sample = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
        for n in range(1, self.ngram + 1):
            if len(tokens) < n:
                break
            found = table_rows(tokens, self.vocab_size, n, self.buckets)
            first = sample[: len(found)]
            kept = (found >= 0) & (first == sample[n - 1 :])  # no run reaches into the next sample
            rows.append(found[kept])
            samples.append(first[kept])
        empty = torch.zeros(0, dtype=torch.int64)
        return torch.cat([empty, *rows]), torch.cat([empty, *samples])

    def _set(self, counts: Tensor, exits: Tensor) -> Self:
        self.counts, self.exits = counts, exits
        total = exits.sum().clamp(min=1)
        uniform = torch.full((self.num_exits,), 1.0 / self.num_exits, dtype=torch.float64)
        share = exits.double() / total if int(exits.sum()) else uniform
        # Keys that never occurred (most of them) have the prior.
        table = share.repeat(len(counts) + 1, 1)
        rows = counts.any(1).nonzero().squeeze(1)
        table[rows] = self._smoothed(counts[rows].double(), share)
        table = (table / GRAIN).round() * GRAIN
        self.table = torch.cat([table, table.new_zeros(1, self.num_exits)]).float().to(self.table.device)
        return self

    def _smoothed(self, counts: Tensor, share: Tensor) -> Tensor:
        """(count + k g) / (Σ count + k), (keys, E) float64."""
        k = self.prior_strength
        return (counts + k * share) / (counts.sum(1, keepdim=True) + k)


def _normalised(total: Tensor, backoff: Tensor) -> Tensor:
    """Rows normalised to sum to 1; the back-off for a sum of zero."""
    mass = total.sum(-1, keepdim=True)
    filled = torch.where(mass > 0, total, backoff)
    return filled / filled.sum(-1, keepdim=True)
