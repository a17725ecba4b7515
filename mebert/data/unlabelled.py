"""Training rows without a label beside the labelled ones of every batch, for recipes that also distil.

An epoch stays one pass over the labelled rows, in the same batches and steps as without the others. Each batch of B
labelled rows has U unlabelled ones after them, so that an epoch also passes once over those, or takes as many as
labelled ones where there are more: the next epoch goes on where it stopped. What follows from labels (metrics, class
weights, difficulty) reads the labelled split, which has no other rows.
"""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset
from typing_extensions import override

from mebert.data.samplers import OrderedSampler
from mebert.data.tokenised import Batch, Item, TokenisedSplit

SPLIT = "unlabelled"  # its name among a data module's splits


class JoinedSplit(Dataset[Item]):
    """Labelled rows (N) and, numbered from N, those without a label, which have no other columns than tokens."""

    def __init__(self, labelled: TokenisedSplit, unlabelled: TokenisedSplit) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, row: int) -> Item:
        more = row - len(self.labelled)
        return self.labelled[row] if more < 0 else self.unlabelled[more]


class UnlabelledBeside(OrderedSampler):
    """The order of another sampler, with `share` unlabelled rows (U) after each batch of a process.

    Unlabelled rows come as from an endless deck that is shuffled before each pass; of an epoch's, long ones stand in
    batches with long labelled rows if rows are grouped by length. All depends on seed and epoch alone.

    Args:
        inner: Of the labelled rows.
        batch_size: Labelled rows a batch and process.
        lengths: Tokens of each labelled row (N,).
        more_lengths: Tokens of each unlabelled row (M,).
        group_by_length: Whether to put those of similar length together.
    """

    def __init__(
        self,
        inner: OrderedSampler,
        batch_size: int,
        lengths: np.ndarray,
        more_lengths: np.ndarray,
        group_by_length: bool = True,
    ) -> None:
        super().__init__(len(lengths), inner.num_replicas, inner.rank, inner.seed)
        self.inner = inner
        self.batch_size = batch_size
        self.lengths, self.more_lengths = lengths, more_lengths
        self.group_by_length = group_by_length
        self.batches = -(-inner.num_samples // batch_size)
        self.share = min(batch_size, -(-len(more_lengths) // (self.batches * self.num_replicas)))
        self.num_samples = inner.num_samples + self.batches * self.share
        self.total_size = self.num_samples * self.num_replicas

    @override
    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.inner.set_epoch(epoch)

    @override
    def global_order(self) -> np.ndarray:
        order, size = self.inner.global_order(), self.batch_size * self.num_replicas
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        more = self._next_rows(len(batches) * self.share * self.num_replicas)
        places = np.arange(len(batches))
        if self.group_by_length:
            more = more[np.argsort(-self.more_lengths[more], kind="stable")]
            places = np.argsort([-self.lengths[rows].max() for rows in batches], kind="stable")
        beside = np.empty((len(batches), self.share * self.num_replicas), dtype=np.int64)
        beside[places] = more.reshape(len(batches), -1)
        beside += len(self.lengths)
        return np.concatenate([part for both in zip(batches, beside, strict=True) for part in both])

    def _next_rows(self, count: int) -> np.ndarray:
        """The unlabelled rows of this epoch, of which all take `count`, in the order of the deck."""
        start, deck = self.epoch * count, len(self.more_lengths)
        turns = range(start // deck, (start + count - 1) // deck + 1)
        drawn = [np.random.default_rng([self.seed, 3, turn]).permutation(deck) for turn in turns]
        return np.concatenate(drawn)[start % deck :][:count]


def labelled_part(batch: Batch) -> Batch:
    """The first rows of a training batch, those with a label."""
    rows = len(batch["labels"])
    return {name: values[:rows] for name, values in batch.items()}
