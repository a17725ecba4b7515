"""The order of training rows under a curriculum, and the length of the training, by which a pacing tells the time."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
import numpy as np
from typing_extensions import override

from mebert.curriculum.ordering import Direction, draw_rows, rank_rows
from mebert.curriculum.pacing import Pacing
from mebert.data.samplers import OrderedSampler, group_by_length
from mebert.errors import UserError

# Least number of blocks within which rows are grouped by length: a row moves by a fifth of an epoch at most,
# and there is hardly more padding than without a curriculum (which takes 4).
MIN_BLOCKS = 5


class CurriculumSampler(OrderedSampler):
    """Rows by difficulty, within the part that the pacing has in use; an epoch is as long as without a curriculum.

    Args:
        lengths: Tokens of each row (N,).
        batch_size: Rows a batch and process.
        difficulty: The epoch to the difficulty of each row (N,) (NaN: not known), or to None while nothing is known:
            such an epoch is plainly shuffled. The same on every process.
        direction: `easy_first`, `hard_first`, or `random` (a control: the rows come into use in random order).
        pacing: Which part is in use when; None: all rows in every epoch, sorted (shuffled, if random).
        epoch_batches, total_batches: Batches of a process in an epoch (None: all) and in the whole training, by which
            the pacing tells the time.
        num_replicas, rank, seed, group_by_length: As of `LengthGroupedSampler`.
        classes: Class of each row (N,) within which it is ranked; None ranks all rows together.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        difficulty: Callable[[int], np.ndarray | None],
        direction: Direction = "easy_first",
        pacing: Pacing | None = None,
        epoch_batches: int | None = None,
        total_batches: int = 1,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        group_by_length: bool = True,
        classes: np.ndarray | None = None,
    ) -> None:
        super().__init__(len(lengths), num_replicas, rank, seed)
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.difficulty = difficulty
        self.direction = direction
        self.classes = classes
        self.pacing = pacing
        self.batches = -(-self.num_samples // batch_size)
        self.epoch_batches = self.batches if epoch_batches is None else epoch_batches
        self.total_batches = total_batches
        self.group_by_length = group_by_length

    @override
    def global_order(self) -> np.ndarray:
        generator = np.random.default_rng([self.seed, self.epoch])
        global_batch = self.batch_size * self.num_replicas
        difficulty = self.difficulty(self.epoch)
        if difficulty is None or (self.direction == "random" and self.pacing is None):
            order, blocks = generator.permutation(len(self.lengths)), 4  # as without a curriculum
        elif self.pacing is None:
            order, blocks = rank_rows(difficulty, self.direction, generator, self.classes), MIN_BLOCKS
        else:
            # A random ranking is the same in every epoch, so that the same rows come into use early.
            ranking = np.random.default_rng(self.seed) if self.direction == "random" else generator
            ranked = rank_rows(difficulty, self.direction, ranking, self.classes)
            order, blocks = draw_rows(ranked, self.total_size, global_batch, self._window, generator), MIN_BLOCKS
        if self.group_by_length:
            order = group_by_length(order, self.lengths, global_batch, blocks, generator)
        return order[: self.total_size]

    def _window(self, time: float) -> tuple[float, float]:
        """The window at a time in [0, 1) of a whole pass in the current epoch."""
        assert self.pacing is not None
        done = self.epoch * self.epoch_batches + time * self.batches
        return self.pacing.window(min(done / self.total_batches, 1.0))


def planned_batches(trainer: L.Trainer | None, batches: int) -> tuple[int, int]:
    """Return the batches of a process in one epoch, and in the whole training, which must have a planned end.

    A whole pass has `batches`; without a trainer, which may limit both, the training is one pass.
    """
    if trainer is None:
        return batches, batches
    limit = trainer.limit_train_batches
    epoch = batches
    if limit is not None:
        epoch = min(limit, batches) if isinstance(limit, int) else max(int(batches * limit), 1)
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return epoch, epoch
    ends = []
    if trainer.max_epochs not in (None, -1):
        ends.append(trainer.max_epochs * epoch)
    if trainer.max_steps not in (None, -1):
        # The last batches of an epoch make a step, too, where there are too few to accumulate.
        steps = -(-epoch // trainer.accumulate_grad_batches)
        epochs, rest = divmod(trainer.max_steps, steps)
        ends.append(epochs * epoch + rest * trainer.accumulate_grad_batches)
    if not ends:
        raise UserError("a curriculum needs the length of the training: give trainer.max_epochs or trainer.max_steps")
    return epoch, max(min(ends), 1)
