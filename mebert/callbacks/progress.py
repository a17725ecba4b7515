"""How far a run is: one bar on a terminal, a plain line after each validation elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from mebert.runtime.progress import Progress, bars_wanted, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["ExitProgressBar", "ProgressLines", "set_progress"]

SILENCE_SECONDS = 300.0
SHOWN_METRIC = "val/score"


def set_progress(trainer: L.Trainer) -> None:
    """Put mebert's bar in the place of Lightning's, or lines where there is no terminal or no bar is wanted.

    First among the callbacks: a bar is away before the tables of others are printed.

    Args:
        trainer: One whose bar, if any, is the default.
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    bar = trainer.progress_bar_callback
    if bar is not None:
        callbacks.remove(bar)
    callbacks.insert(0, ExitProgressBar() if bar is not None and bars_wanted() else ProgressLines())


class TrainingStatus:
    """What there is to say of a training: where it is, its loss since the last line, the score and its best."""

    def __init__(self) -> None:
        self._loss: Tensor | None = None
        self._batches = 0
        self._since = time.monotonic()
        self._best: float | None = None

    def add(self, trainer: L.Trainer, outputs: Any) -> None:
        """Count a training batch; adding tensors waits for no accelerator."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:
            # Lightning hands over the loss as it is accumulated.
            loss = loss.detach().float() * trainer.accumulate_grad_batches
            self._loss = loss if self._loss is None else self._loss + loss
            self._batches += 1

    @property
    def has_trained(self) -> bool:
        """Whether a batch has come since the last line."""
        return self._batches > 0

    def place(self, trainer: L.Trainer) -> str:
        """Which epoch, or which step where only steps are counted."""
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            return f"epoch {min(trainer.current_epoch + 1, trainer.max_epochs)}/{trainer.max_epochs}"
        return f"epoch {trainer.current_epoch + 1}"

    def figures(self, trainer: L.Trainer) -> list[str]:
        """The mean loss since the last line, and the score of the last validation."""
        found = []
        if self._loss is not None:
            found.append(f"loss {float(self._loss) / self._batches:.4f}")
        score = trainer.callback_metrics.get(SHOWN_METRIC)
        if score is not None:
            found.append(f"val score {float(score):.4f}")
        return found

    def line(self, trainer: L.Trainer, validated: bool) -> str:
        """The line, after which loss and clock begin anew.

        Args:
            trainer: Holds the metrics.
            validated: Whether a validation has just ended.
        """
        inside = validated and trainer.val_check_batch < trainer.num_training_batches  # type: ignore[operator]
        where = self.place(trainer) + (f", step {trainer.global_step}" if inside or not validated else "")
        figures = self.figures(trainer)
        score = trainer.callback_metrics.get(SHOWN_METRIC)
        if validated and score is not None:
            if self._best is not None and float(score) <= self._best:
                figures[-1] += f" (best {self._best:.4f})"
            self._best = max(float(score), self._best or float(score))
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        self._loss, self._batches = None, 0
        return f"{where}: {', '.join([*figures, duration(seconds)])}"

    def silent(self) -> float:
        """Seconds since the last line."""
        return time.monotonic() - self._since


class ProgressLines(L.Callback):
    """Logs a line after each validation (without any: after each epoch), and every five minutes in long epochs."""

    def __init__(self) -> None:
        self._words = TrainingStatus()
        self._validated = False

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._words = TrainingStatus()

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = False

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._words.add(trainer, outputs)
        if self._words.silent() > SILENCE_SECONDS:
            rank_zero_info(self._words.line(trainer, validated=False))

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.training or (trainer.validating and trainer.state.fn == "fit"):
            self._validated = True
            rank_zero_info(self._words.line(trainer, validated=True))

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._validated and self._words.has_trained:  # not where a resumed run begins between epochs
            rank_zero_info(self._words.line(trainer, validated=False))


class ExitProgressBar(ProgressBar):
    """One bar for a whole training, with the time that is left of it; a bar each for validation, test and prediction.

    Each validation leaves a line above the bar. `trainer.callbacks` may hold another progress bar instead.
    """

    shares_display = True

    def __init__(self) -> None:
        super().__init__()
        self.is_enabled = True
        self._words = TrainingStatus()
        self._training: Progress | None = None
        self._pass: Progress | None = None
        self._done = 0
        self._validated = False

    @override
    def disable(self) -> None:
        self.is_enabled = False

    @override
    def enable(self) -> None:
        self.is_enabled = True

    # ---- training ------------------------------------------------------------------------------------------

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._words = TrainingStatus()
        self._done = trainer.fit_loop.total_batch_idx + 1  # of a run that goes on
        total = self._total(trainer)
        self._training = Progress(self._words.place(trainer), total, self.is_enabled).__enter__()
        self._training.update(self._words.place(trainer), total, self._done)

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = False
        if self._training is not None:
            self._training.update(self._words.place(trainer), self._total(trainer), self._done)

    def _total(self, trainer: L.Trainer) -> float:
        """Batches of the whole training, if the epochs to come are like this one."""
        totals = []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            left = trainer.max_epochs - trainer.current_epoch
            totals.append(self._done + left * trainer.num_training_batches)
        if trainer.max_steps > 0:
            left = trainer.max_steps - trainer.global_step
            totals.append(self._done + left * trainer.accumulate_grad_batches)
        return min(totals, default=float("inf"))

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._words.add(trainer, outputs)
        self._done += 1
        if self._training is not None:
            self._training.tick(lambda: "  ".join(self._words.figures(trainer)))

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._training is not None and not self._validated and self._words.has_trained:
            self._training.say(self._words.line(trainer, validated=False))

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        for bar in (self._pass, self._training):
            if bar is not None:
                bar.close()
        self._pass = self._training = None

    # ---- passes over a split -------------------------------------------------------------------------------

    def _begin(self, text: str, batches: float | Sequence[float]) -> None:
        total = batches if isinstance(batches, (int, float)) else sum(batches)
        self._pass = Progress(text, total, self.is_enabled).__enter__()

    def _tick(self) -> None:
        if self._pass is not None:
            self._pass.tick()

    def _end(self) -> None:
        """Before the tables are printed."""
        if self._pass is not None:
            self._pass.close()
            self._pass = None

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._begin("validating", trainer.num_val_batches)

    @override
    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._tick()

    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end()

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._training is not None and not trainer.sanity_checking:
            self._validated = True
            self._training.say(self._words.line(trainer, validated=True))

    @override
    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin("testing", trainer.num_test_batches)

    @override
    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._tick()

    @override
    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end()

    @override
    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._begin("predicting", trainer.num_predict_batches)

    @override
    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._tick()

    @override
    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end()
