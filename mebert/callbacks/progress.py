"""The progress of a run: a bar on a terminal, a line after each validation everywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import BatchesProcessedColumn, CustomBarColumn
from rich.progress import ProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor
from typing_extensions import override

from mebert.metrics.task import score_to_choose
from mebert.runtime.messages import rank_zero_info
from mebert.runtime.progress import REFRESH_SECONDS, duration, send_logs_to_current_stderr
from mebert.runtime.terminal import bars_wanted

SILENCE_SECONDS = 300.0
SHOWN_METRIC = "val/score"


def set_progress(trainer: L.Trainer) -> None:
    """Replace Lightning's bar with mebert's, or with lines where there is no terminal or no bar is wanted.

    It comes first among the callbacks: a bar is removed before others print their tables.
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    bar = trainer.progress_bar_callback
    if bar is not None:
        callbacks.remove(bar)
    callbacks.insert(0, ExitProgressBar() if bar is not None and bars_wanted() else ProgressLines())


def epoch_of(trainer: L.Trainer) -> str:
    """The current epoch, from 1, and how many there will be, where that is known."""
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        return f"epoch {min(trainer.current_epoch + 1, trainer.max_epochs)}/{trainer.max_epochs}"
    return f"epoch {trainer.current_epoch + 1}"


class ProgressLines(L.Callback):
    """Logs a line after each validation (without any: after each epoch), and every five minutes in long epochs.

    A line shows the mean loss since the last line, the last validation score and the best one, and the time since the
    epoch began, its validation included.
    """

    def __init__(self) -> None:
        super().__init__()
        self._validated = False
        self._best: float | None = None
        self._epoch_began = time.monotonic()
        self._start_line()

    def _start_line(self) -> None:
        self._loss: Tensor | None = None  # the sum over the batches since the last line
        self._batches = 0
        self._since = time.monotonic()

    def figures(self, trainer: L.Trainer) -> dict[str, str]:
        """The mean loss since the last line, and the score of the last validation (in the first stage of two: none)."""
        found = {} if self._loss is None else {"loss": f"{float(self._loss) / self._batches:.4f}"}
        if getattr(trainer.lightning_module, "stage", 2) == 1:  # most exits are untrained
            return found | {"stage": "1 of 2"}
        score = trainer.callback_metrics.get(SHOWN_METRIC)
        return found if score is None else found | {"val score": f"{float(score):.4f}"}

    def next_line(self, trainer: L.Trainer, validated: bool) -> str:
        """The line to print now; the mean loss and the clock start again."""
        in_epoch = not validated or trainer.val_check_batch < trainer.num_training_batches  # type: ignore[operator]
        place = epoch_of(trainer) + (f", step {trainer.global_step}" if in_epoch else "")
        figures = [f"{name} {value}" for name, value in self.figures(trainer).items()]
        score = trainer.callback_metrics.get(SHOWN_METRIC)
        if validated and score is not None:
            if "val score" in figures[-1] and self._best is not None and not float(score) > self._best:
                figures[-1] += f" (best {self._best:.4f})"
            self._best = max(self._best, float(score), key=score_to_choose)
        figures.append(duration(time.monotonic() - self._epoch_began))
        self._start_line()
        return f"{place}: {', '.join(figures)}"

    def print_line(self, line: str) -> None:
        """Log the line."""
        rank_zero_info(line)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._best = None
        self._start_line()
        super().on_train_start(trainer, pl_module)

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = False
        self._epoch_began = time.monotonic()
        super().on_train_epoch_start(trainer, pl_module)

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is not None:  # a sum on its device: nothing waits for an accelerator
            # Lightning divides the loss by the number of accumulated batches.
            loss = loss.detach().float() * trainer.accumulate_grad_batches
            self._loss = loss if self._loss is None else self._loss + loss
            self._batches += 1
        if time.monotonic() - self._since > SILENCE_SECONDS:
            self.print_line(self.next_line(trainer, validated=False))
        super().on_train_batch_end(trainer, pl_module, outputs, *batch)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._validated = True
            self.print_line(self.next_line(trainer, validated=True))
        super().on_validation_end(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._validated and self._batches:  # not where a resumed run begins between epochs
            self.print_line(self.next_line(trainer, validated=False))
        super().on_train_epoch_end(trainer, pl_module)


class ExitProgressBar(ProgressLines, RichProgressBar):
    """Lightning's bar on standard error, with the lines of `ProgressLines` above it.

    The bar is removed before tables are printed and anything is timed. Another bar in `trainer.callbacks` replaces it.
    """

    shares_display = True

    def __init__(self) -> None:
        super().__init__()
        self._refresh_rate = round(1 / REFRESH_SECONDS)
        self._console_kwargs = {"stderr": True}
        self._figures: dict[str, Any] = {}
        self._figures_at = 0.0

    @override
    def print_line(self, line: str) -> None:
        if self.progress is not None:
            self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @override
    def configure_columns(self, trainer: L.Trainer) -> list[ProgressColumn]:
        bar = CustomBarColumn(bar_width=20)
        return [TextColumn("{task.description}"), bar, BatchesProcessedColumn(""), TimeRemainingColumn(compact=True)]

    @override
    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        if time.monotonic() - self._figures_at > REFRESH_SECONDS:  # reading the loss waits for an accelerator
            self._figures, self._figures_at = self.figures(trainer), time.monotonic()
        return self._figures

    @override
    def _get_train_description(self, current_epoch: int) -> str:
        return epoch_of(self.trainer)

    @override
    def _init_progress(self, trainer: L.Trainer) -> None:
        send_logs_to_current_stderr()
        stdout = sys.stdout
        super()._init_progress(trainer)
        if self.progress is not None:
            self.progress.live.transient = True
        if not stdout.isatty():  # rich would write what is printed to standard error, too
            sys.stdout = stdout

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_progress()

    on_test_epoch_end = on_predict_epoch_end = on_train_end

    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        if trainer.state.fn == "validate":
            self._stop_progress()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop_progress()
