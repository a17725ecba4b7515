"""The order of rows: the same global batches on one process or many, equally long on every process.

A global batch is a block of `batch_size * num_replicas` consecutive rows of the common order; process r takes every
`num_replicas`-th of its rows. Lightning keeps samplers that subclass `DistributedSampler`, and sets their epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler
from typing_extensions import override

from mebert.errors import UserError

PADDING_ROW = -1

# Batches whose rows are sorted by length together: enough for little padding, few enough (at most a quarter of all, in
# a small data set) that the rows which share a batch change from epoch to epoch.
MEGA_BATCH = 50


def group_by_length(
    order: np.ndarray, lengths: np.ndarray, global_batch: int, min_blocks: int, generator: np.random.Generator
) -> np.ndarray:
    """Put rows of similar length into one batch, without moving a row far from its place in the order.

    The order is cut into blocks of up to `MEGA_BATCH` global batches (at least `min_blocks` blocks, where there are as
    many batches), sorted by length within a block, and the batches of a block are shuffled. What does not fill a global
    batch stays at the end. `lengths` are the tokens of each row of the split (N,).
    """
    full = len(order) // global_batch * global_batch
    block = max(1, min(MEGA_BATCH, full // global_batch // min_blocks)) * global_batch
    parts = []
    for start in range(0, full, block):
        rows = order[start : min(start + block, full)]
        by_length = rows[np.argsort(-lengths[rows], kind="stable")]
        parts.append(generator.permutation(by_length.reshape(-1, global_batch), axis=0).reshape(-1))
    return np.concatenate([*parts, order[full:]])


class OrderedSampler(DistributedSampler[int], ABC):
    """Training rows in an order that subclasses define for all processes together; each takes its share.

    The shares are equally long: `total_size` is the largest multiple of `num_replicas` within `rows`. An order must
    depend only on the arguments, `seed`, `epoch` and the content of checkpoints, so that a resumed run repeats it.

    Attributes:
        skip_rows: Rows of this process, seen before the run was interrupted, that an iteration skips (set by
            `ResumableLoader`); `len` counts them.
    """

    def __init__(self, rows: int, num_replicas: int = 1, rank: int = 0, seed: int = 0) -> None:
        sized: Any = range(rows)  # a `DistributedSampler` reads no more of its data set than the length
        super().__init__(sized, num_replicas=num_replicas, rank=rank, seed=seed)
        if rows < num_replicas:
            raise UserError(f"{rows} training rows cannot be shared by {num_replicas} processes; use fewer")
        self.num_samples = rows // num_replicas
        self.total_size = self.num_samples * num_replicas
        self.skip_rows = 0

    @abstractmethod
    def global_order(self) -> np.ndarray:
        """Return the rows of this epoch in the order common to all processes, (total_size,)."""

    def __iter__(self) -> Iterator[int]:
        share = self.global_order()[self.rank :: self.num_replicas]
        return iter(share[self.skip_rows :].tolist())


class LengthGroupedSampler(OrderedSampler):
    """Shuffled training rows, with `group_by_length` those of similar length (`lengths`, (N,)) in one batch.

    The order depends on the seed and the epoch only. What does not fill a global batch comes last, less the up to
    `num_replicas - 1` rows (others in each epoch) that would give the processes unequal shares.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        group_by_length: bool = True,
    ) -> None:
        super().__init__(len(lengths), num_replicas, rank, seed)
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.group_by_length = group_by_length

    @override
    def global_order(self) -> np.ndarray:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        if self.group_by_length:
            order = group_by_length(order, self.lengths, self.batch_size * self.num_replicas, 4, generator)
        return order[: self.total_size]


class EvalSampler(DistributedSampler[int]):
    """Every row once over all processes, the longest first; `PADDING_ROW` fills up the shares at the end."""

    def __init__(self, lengths: np.ndarray, num_replicas: int = 1, rank: int = 0) -> None:
        sized: Any = range(len(lengths))
        super().__init__(sized, num_replicas=num_replicas, rank=rank, shuffle=False)
        order = np.argsort(-np.asarray(lengths), kind="stable")
        padding = np.full(self.total_size - len(order), PADDING_ROW, dtype=order.dtype)
        self.order = np.concatenate([order, padding])

    def __iter__(self) -> Iterator[int]:
        return iter(self.order[self.rank :: self.num_replicas].tolist())
