"""The order of rows: the same global batches on one process or many, equally long on every process.

A global batch is a block of `batch_size * num_replicas` consecutive rows of the common order, and process r
takes every `num_replicas`-th of its rows. Both samplers subclass `DistributedSampler`, which Lightning leaves
as it is and tells the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from mebert.errors import UserError

__all__ = ["PADDING_ROW", "EvalSampler", "LengthGroupedSampler"]

PADDING_ROW = -1

# Batches whose rows are sorted by length together: enough for little padding, few enough (and at most a
# quarter of all, in a small data set) that the rows which share a batch still change from epoch to epoch.
MEGA_BATCH = 50


class _Sized(Dataset[int]):
    """What `DistributedSampler` asks of a data set: its size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


class LengthGroupedSampler(DistributedSampler[int]):
    """Shuffled training rows, those of similar length in one batch.

    The order depends on the seed and the epoch only. Rows are shuffled, cut into blocks of up to `MEGA_BATCH`
    global batches, sorted by length within a block, and the batches of a block are shuffled again. What does
    not fill a global batch comes last, less the up to `num_replicas - 1` rows (others in each epoch) that
    would give the processes unequal shares.

    Args:
        lengths: Tokens of each row (N,).
        batch_size: Rows a batch and process.
        num_replicas: Processes.
        rank: This process, from 0.
        seed: Seed of the order.
        group_by_length: False leaves the rows plainly shuffled.

    Raises:
        UserError: Fewer rows than processes.
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
        super().__init__(_Sized(len(lengths)), num_replicas=num_replicas, rank=rank, seed=seed)
        if len(lengths) < num_replicas:
            raise UserError(f"{len(lengths)} training rows cannot be shared by {num_replicas} processes; use fewer")
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.group_by_length = group_by_length
        self.num_samples = len(lengths) // num_replicas
        self.total_size = self.num_samples * num_replicas

    def global_order(self) -> np.ndarray:
        """Return the rows of this epoch in the order common to all processes, (total_size,)."""
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        if self.group_by_length:
            global_batch = self.batch_size * self.num_replicas
            full = len(order) // global_batch * global_batch
            block = max(1, min(MEGA_BATCH, full // global_batch // 4)) * global_batch
            blocks = [
                self._group(order[start : min(start + block, full)], global_batch, generator)
                for start in range(0, full, block)
            ]
            order = np.concatenate([*blocks, order[full:]])
        return order[: self.total_size]

    def _group(self, block: np.ndarray, global_batch: int, generator: np.random.Generator) -> np.ndarray:
        by_length = block[np.argsort(-self.lengths[block], kind="stable")]
        return generator.permutation(by_length.reshape(-1, global_batch), axis=0).reshape(-1)

    def __iter__(self) -> Iterator[int]:
        return iter(self.global_order()[self.rank :: self.num_replicas].tolist())


class EvalSampler(DistributedSampler[int]):
    """Every row once over all processes, the longest first; `PADDING_ROW` fills up the shares at the end.

    Args:
        lengths: Tokens of each row (N,).
        num_replicas: Processes.
        rank: This process, from 0.
    """

    def __init__(self, lengths: np.ndarray, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(_Sized(len(lengths)), num_replicas=num_replicas, rank=rank, shuffle=False)
        order = np.argsort(-np.asarray(lengths), kind="stable")
        padding = np.full(self.total_size - len(order), PADDING_ROW, dtype=order.dtype)
        self.order = np.concatenate([order, padding])

    def __iter__(self) -> Iterator[int]:
        return iter(self.order[self.rank :: self.num_replicas].tolist())
