"""A run that is cut short inside an epoch is validated, and so gets its checkpoint, too."""

from __future__ import annotations

from typing import Any

import lightning as L
from typing_extensions import override

__all__ = ["ValidateLast"]


class ValidateLast(L.Callback):
    """Validates after the last step where `max_steps` ends training inside an epoch.

    Lightning validates at the end of an epoch; a run that `max_steps` ends before would have no score, hence
    no best checkpoint, and no thresholds. Asking the Trainer to stop at its last step makes it validate
    first.
    """

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True
