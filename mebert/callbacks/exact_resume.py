"""Exact resumption: the random state and the position in the epoch, which Lightning does not restore."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from mebert.data.resumable import ResumableLoader
from mebert.runtime.distributed import gather_rows
from mebert.runtime.messages import rank_zero_warn

KEY = "resume"


class ExactResume(L.Callback):
    """Lets a run that was stopped in mid-epoch go on with the rows and the dropout that would have come next.

    Saved are the place of the training loader (a `ResumableLoader`) and every process's random state of PyTorch, on
    the CPU and on its GPU. The random numbers of `random` and NumPy are not: nothing here draws them in training.
    """

    def __init__(self) -> None:
        self._place: dict[str, Any] | None = None
        self._random: dict[str, Tensor] | None = None

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning calls this on every process and writes what process 0 has.
        states = {"cpu": torch.get_rng_state()}
        if pl_module.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(pl_module.device)
        loader = trainer.train_dataloader
        # Of all processes, (W, n), on the CPU; sent by way of the device of the training.
        random = {name: gather_rows(s.to(pl_module.device).unsqueeze(0)).cpu() for name, s in states.items()}
        checkpoint[KEY] = {
            # Between epochs, a resumed run writes a file before it takes up the state of the one it goes on with.
            "random": random if self._random is None else self._random,
            "train_loader": loader.state_dict() if isinstance(loader, ResumableLoader) else None,
        }

    @override
    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(KEY)
        if saved is not None:
            self._place, self._random = saved["train_loader"], saved["random"]

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning itself hands a loader its state only if the loader is made after the loops were read. A module
        # that asks for the number of training steps, as ours do for their schedule, has it made before.
        loader = trainer.train_dataloader
        if self._place is not None and isinstance(loader, ResumableLoader):
            loader.load_state_dict(self._place)
        self._place = None

    @override
    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, *_: Any) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # in mid-epoch no epoch starts

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # The random state is set now, not when the checkpoint is read: what runs in between draws, too.
        states, self._random = self._random, None
        if states is None:
            return
        processes = len(states["cpu"])
        if processes != trainer.world_size:
            rank_zero_warn(
                f"the checkpoint is of {processes} process(es), now there are {trainer.world_size}: training goes on, "
                "but not exactly as it would have"
            )
            return
        torch.set_rng_state(states["cpu"][trainer.global_rank].clone())
        if pl_module.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"][trainer.global_rank].clone(), pl_module.device)
