"""A command that is asked to stop ends after its step or batch: SIGTERM, and in training Ctrl-C and SLURM's SIGUSR1."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

from mebert.callbacks.last_checkpoint import LastCheckpoint
from mebert.runtime.slurm import note_job, requeue_job
from mebert.storage.run_folder import run_folder


class Stopped(SIGTERMException):
    """A command has ended because of a signal (training with a checkpoint); the exit status is 128 + its number.

    `said` is a further message for the user.
    """

    def __init__(self, signum: int, said: str = "") -> None:
        super().__init__(128 + signum)
        self.signum = signum
        self.said = said


class StopOnSignal(Checkpoint):
    """Ends training at the next optimiser step after a signal, with the checkpoint of that step, on all processes.

    Lightning's own way is to end after the batch without a checkpoint, or, on SLURM, to write one in the midst of
    whatever runs. In the last step of an epoch and during validation, the end of the validation is waited for: there is
    no checkpoint within one. A second Ctrl-C stops at once.

    `validate`, `test` and `predict` end after the batch that runs at SIGTERM, and at once between batches and behind
    the last one, where rows are evaluated or written; so does the test after a `fit`. What was written before stays. A
    process that Lightning has started for the others is told, too.

    A `Checkpoint`, because those are called last: what it ends has then been measured and saved by all the others.

    Args:
        command: The command line, by which a job that SLURM starts again finds its run.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        self.command = command
        self._asked: int | None = None
        self._before: dict[int, Any] = {}
        self._process = 0
        self._in_batch = False  # of an evaluation

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._asked, self._process = None, os.getpid()
        if trainer.is_global_zero:
            note_job(run_folder(trainer), self.command)
        if threading.current_thread() is not threading.main_thread():
            return  # no handler can be set there
        requeue = _requeue_signal(trainer)
        for signum in {signal.SIGTERM, signal.SIGINT} | ({requeue} if requeue is not None else set()):
            self._before[signum] = signal.signal(signum, self._ask)  # Lightning puts its own back in the end

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.is_last_batch:
            self._stop_if_asked(trainer)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self.on_train_end(trainer, pl_module)
        elif not trainer.sanity_checking:
            self._stop_if_asked(trainer)

    on_test_end = on_predict_end = on_validation_end

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_asked(trainer)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        before, self._before = self._before, {}
        for signum, handler in before.items():
            if handler is not None:
                signal.signal(signum, handler)

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def _start_evaluation(self, trainer: L.Trainer) -> None:
        if trainer.state.fn == "fit" or threading.current_thread() is not threading.main_thread():
            return
        self._asked, self._process, self._in_batch = None, os.getpid(), False

        def ask(signum: int, frame: FrameType | None) -> None:
            if os.getpid() != self._process:
                return
            self._asked = signum
            if not self._in_batch:
                self._end_evaluation(trainer)

        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, ask)

    def _end_evaluation(self, trainer: L.Trainer) -> None:
        self._in_batch = False
        if self._asked is not None:
            launcher = trainer.strategy.launcher
            if isinstance(launcher, _SubprocessScriptLauncher):
                launcher.kill(self._asked)
            raise Stopped(self._asked)

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start_evaluation(trainer)

    @override
    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self._in_batch = True

    @override
    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.state.fn != "fit":
            self._end_evaluation(trainer)

    on_test_start = on_predict_start = on_validation_start
    on_test_batch_start = on_predict_batch_start = on_validation_batch_start  # type: ignore[assignment]
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end  # type: ignore[assignment]

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker of the loader: its batches are still wanted
        if self._asked is None:
            self._asked = signum
            again = " (Ctrl-C again: at once)" if signum == signal.SIGINT else ""
            name = signal.Signals(signum).name
            # Not `print`: a signal may come while that is at work.
            os.write(2, f"\nmebert: {name}: last.ckpt is written after this step or validation{again}\n".encode())
        elif signum == signal.SIGINT:
            raise KeyboardInterrupt

    def _stop_if_asked(self, trainer: L.Trainer) -> None:
        together = trainer.strategy.reduce_boolean_decision
        if not together(self._asked is not None, all=False):
            return
        requeue = _requeue_signal(trainer)
        put_back = together(self._asked == requeue, all=False)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.save_now(trainer)
        if put_back and requeue is not None:
            said = requeue_job() if trainer.is_global_zero else ""
            trainer.strategy.barrier()  # srun may end all tasks as soon as one has ended
            raise Stopped(requeue, said)
        raise Stopped(self._asked or signal.SIGTERM)


def _requeue_signal(trainer: L.Trainer) -> int | None:
    """The signal that SLURM sends before a job's time limit; None where the job is not requeued."""
    environment = trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return None
    return None if environment.requeue_signal is None else int(environment.requeue_signal)
