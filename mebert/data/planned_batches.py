"""How long a training will be, before it begins: a pacing has to tell the time."""

from __future__ import annotations

import lightning as L

from mebert.errors import UserError

__all__ = ["planned_batches"]


def planned_batches(trainer: L.Trainer | None, batches: int) -> tuple[int, int]:
    """Batches of a process in one epoch, and in the whole training.

    Args:
        trainer: Its limits count; None is one epoch.
        batches: Batches of a whole pass.

    Raises:
        UserError: The training has no planned end.
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
        raise UserError("a curriculum has to know the length of the training: give trainer.max_epochs or max_steps")
    return epoch, max(min(ends), 1)
