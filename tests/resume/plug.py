"""A user's own callback that notes what is trained, and may pull the plug or keep what lies on the disk by then."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning as L

__all__ = ["Plug", "pull"]


def pull(number: int = signal.SIGKILL) -> None:
    """Send this process a signal."""
    os.kill(os.getpid(), number)


class Plug(L.Callback):
    """What it does stands in the environment.

    NOTES is a file that takes a line a batch. PULL_AT is where a signal comes: [epoch, batch], ["val", epoch, batch] or
    in another command ["test", batch] or ["test", "end"], behind the last batch (so too "validate" and "predict");
    PULL_WITH is the signal (SIGKILL unless given), PULL_TIMES how often it comes. SNAPSHOTS is a list of [epoch, batch,
    folder]: the experiment's folder is copied there, which is all that a kill at this moment would leave. LIMIT_AT is
    [epoch, batch, bytes]: no file may be larger from then on, as if the disk were full.
    """

    def __init__(self) -> None:
        self.pull_at: list[Any] = json.loads(os.environ.get("PULL_AT", "null"))
        self.pull_with = int(os.environ.get("PULL_WITH", signal.SIGKILL))
        self.limit_at: list[int] = json.loads(os.environ.get("LIMIT_AT", "[-1, -1, 0]"))
        self.snapshots: list[list[Any]] = json.loads(os.environ.get("SNAPSHOTS", "[]"))

    def note(self, *line: Any) -> None:
        if "NOTES" in os.environ:
            with Path(os.environ["NOTES"]).open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _evaluated(self, trainer: L.Trainer, place: int | str) -> None:
        """A batch of a command other than `fit` begins, or its last one has ended."""
        if trainer.state.fn != "fit":
            self.note("evaluated", trainer.state.fn.value, place)
            if [trainer.state.fn.value, place] == self.pull_at:
                pull(self.pull_with)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._evaluated(trainer, "end")

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        place = [trainer.current_epoch, batch_idx]
        for *when, folder in self.snapshots:
            if when == place:
                shutil.copytree(Path("runs", "whole"), folder)
        if place == self.limit_at[:2]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit_at[2], resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        self.note("batch", *place, batch["index"].tolist())
        if place == self.pull_at:
            for _ in range(int(os.environ.get("PULL_TIMES", "1"))):
                pull(self.pull_with)

    def on_validation_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self._evaluated(trainer, args[2])
        if not trainer.sanity_checking and ["val", trainer.current_epoch, args[2]] == self.pull_at:
            pull(self.pull_with)

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start
    on_test_epoch_end = on_predict_epoch_end = on_validation_epoch_end

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.note("done", trainer.current_epoch, batch_idx)
