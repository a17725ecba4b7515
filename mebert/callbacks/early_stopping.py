"""Early stopping: training ends when a validation metric has not improved for some validations."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping
from typing_extensions import override

from mebert.errors import UserError, check_range
from mebert.runtime.messages import rank_zero_info


class StopEarly(EarlyStopping):
    """Lightning's `EarlyStopping`, off unless `patience` is set, which waits for the second stage of two.

    In the first stage of a recipe of two (`TwoStageModule`) the earlier exits are untrained; validations count from the
    second one on.

    Args:
        patience: End training after so many validations without improvement, at least 1; null never does.
        monitor: The metric: `val/auc` is the area under the accuracy-speed curve of the module's policy.
        mode: `max` or `min` of it.
        min_delta: Smallest change that counts as an improvement.
    """

    def __init__(
        self,
        patience: int | None = None,
        monitor: str = "val/auc",
        mode: Literal["max", "min"] = "max",
        min_delta: float = 0.0,
    ) -> None:
        check_range("patience", patience, 1)
        check_range("min_delta", min_delta, 0.0)
        # A metric without a value is no improvement, and no reason to stop at once.
        super().__init__(
            monitor, min_delta, patience or 1, mode=mode, check_finite=False, check_on_train_epoch_end=False
        )
        self.wanted = patience

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.patience = self.wanted or 1  # what is set now, not what the checkpoint's run had

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.wanted is None or self._should_skip_check(trainer) or getattr(pl_module, "stage", 2) == 1:
            return
        if self.monitor not in trainer.callback_metrics and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            known = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
            raise UserError(f"early_stopping.monitor {self.monitor} is not measured; choose one of {', '.join(known)}")
        super().on_validation_end(trainer, pl_module)
        if self.stopping_reason_message is not None and trainer.should_stop:
            rank_zero_info(
                f"early stopping: {self.monitor} has not improved for {self.wait_count} validation(s) "
                f"(best {float(self.best_score):.4f}); --early_stopping.patience sets how many to wait"
            )
