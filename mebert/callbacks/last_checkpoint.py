"""The checkpoint to resume from."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

__all__ = ["LastCheckpoint"]


class LastCheckpoint(ModelCheckpoint):
    """`ModelCheckpoint` whose every file a run can be resumed from exactly.

    - It writes after each validation, too, where `every_n_train_steps` is given; Lightning's does one or the other.
    - With accumulated gradients it never writes between the batches of one step, as Lightning's does right after
      a resume: those gradients are in no checkpoint.
    - An epoch's checkpoint is of the end of its validation, whatever `save_on_train_epoch_end` says. From the end of
      the epoch itself, Lightning resumes a run that has `max_steps` with an epoch left out
      (https://github.com/Lightning-AI/pytorch-lightning/issues/19617 is of that kind). Without validation there is no
      other way.

    Args:
        **kwargs: Those of `ModelCheckpoint`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._every_n_epochs = max(1, self._every_n_epochs)

    @property
    @override
    def state_key(self) -> str:
        return type(self).__name__  # Lightning's names the intervals, and warns where a resumed run has others

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
