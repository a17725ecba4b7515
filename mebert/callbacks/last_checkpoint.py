"""`last.ckpt`, the checkpoint to resume from, and a validation before training ends inside an epoch."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from typing_extensions import override

from mebert.callbacks.base import CheckedCheckpoint
from mebert.storage.atomic import keeping_previous, previous_of
from mebert.storage.checkpoint_io import AtomicCheckpointIO


class ValidateLast(L.Callback):
    """Validates after the last step where `max_steps` ends training inside an epoch.

    Lightning validates at the end of an epoch: such a run would have no score, no best checkpoint and no thresholds.
    A Trainer that is asked to stop at its last step validates first.
    """

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True


class LastCheckpoint(CheckedCheckpoint):
    """A `ModelCheckpoint` from whose every file a run can be resumed exactly.

    - It writes after each validation, too, where `every_n_train_steps` is given; Lightning's does one or the other.
    - With accumulated gradients it never writes between the batches of one step, as Lightning's does right after
      a resume: those gradients are in no checkpoint.
    - An epoch's checkpoint is written after its validation, whatever `save_on_train_epoch_end` is, unless there is no
      validation. From one written before it, Lightning resumes a run with `max_steps` one epoch too late
      (https://github.com/Lightning-AI/pytorch-lightning/issues/19617).
    - While training runs, the file before it is kept beside it (`last-previous.ckpt`), for when it is damaged.

    Args:
        keep: Keep the file after `fit` has finished as well, to train longer from; three times the model's size.
        keep_previous: Keep the previous file until training ends.
        **kwargs: Arguments of `ModelCheckpoint`.
    """

    def __init__(self, keep: bool = False, keep_previous: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep = keep
        self.keep_previous = keep_previous
        self._every_n_epochs = max(1, self._every_n_epochs)

    @property
    @override
    def state_key(self) -> str:
        return type(self).__name__  # Lightning's names the intervals, and warns where a resumed run has others

    def save_now(self, trainer: L.Trainer) -> None:
        """Write a checkpoint on all processes together, unless there is one of this step."""
        if self._last_global_step_saved != trainer.global_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    @property
    def written(self) -> str:
        """The last file that this run wrote; empty if it wrote none."""
        return self._last_checkpoint_saved

    def discard(self) -> None:
        """Remove the file of a training that is finished, and whose model is saved, unless it is to be kept."""
        if self.written and self.is_local and not self.keep:
            Path(self.written).unlink(missing_ok=True)

    @override
    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        replaced = isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
        kept = self.keep_previous and trainer.is_global_zero and self.is_local
        with keeping_previous(Path(filepath), replaced) if kept else nullcontext():
            super()._save_checkpoint(trainer, filepath)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if self.written and trainer.is_global_zero and self.is_local:
            previous_of(Path(self.written)).unlink(missing_ok=True)  # the run is complete

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A file of the last batch would be resumed behind the validation that is still to come.
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_global_step_saved = 0  # the step may be the same, the scores and thresholds are new
        self._save_on_train_epoch_end = False
        super().on_validation_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save_on_train_epoch_end = True  # where validation has not just done so
        super().on_train_epoch_end(trainer, pl_module)
