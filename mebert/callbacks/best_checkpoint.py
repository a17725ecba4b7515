"""The best checkpoint of a training, also of one that was stopped and goes on in another folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from typing_extensions import override

from mebert.callbacks.base import CheckedCheckpoint
from mebert.errors import UserError
from mebert.runtime.messages import rank_zero_info, rank_zero_warn
from mebert.storage.atomic import atomic_write
from mebert.storage.checkpoint_parts import BestFiles
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.json_values import check_values


class BestCheckpoint(CheckedCheckpoint):
    """A `ModelCheckpoint` that keeps the best of the whole training, resumed runs included.

    - A resumed run, whose folder is its own, takes along the best files of the run that it goes on with, and their
      scores. Lightning's begins with none.
    - A validation score is compared when validation ends, not when the epoch does: the checkpoint to resume from is
      written in between, and a run that is killed there would lose the score.
    - A score that is NaN ranks last; as long as no checkpoint has a score, the newest is kept.

    Args:
        **kwargs: Those of `ModelCheckpoint`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._carried: dict[str, Any] | None = None

    @property
    @override
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    @override
    def _should_save_on_train_epoch_end(self, trainer: L.Trainer) -> bool:
        if self._save_on_train_epoch_end is None and str(self.monitor).startswith("val"):
            return False
        return super()._should_save_on_train_epoch_end(trainer)

    @override
    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        if current is None or not current.isnan() or self.save_top_k != 1:
            return super().check_monitor_top_k(trainer, current)
        worst = -math.inf if self.mode == "max" else math.inf  # what Lightning keeps in place of NaN
        return all(float(score) == worst for score in self.best_k_models.values())

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        check_values(BestFiles, state_dict, "the best files that it names")
        if state_dict.get("dirpath") == self.dirpath:
            super().load_state_dict(state_dict)
        else:
            self._carried = state_dict

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        state, self._carried = self._carried, None
        if state is None or trainer.ckpt_path is None or self.monitor is None or state["monitor"] != self.monitor:
            return
        kept = self._copy(state, Path(trainer.ckpt_path), trainer.global_step) if trainer.is_global_zero else {}
        kept = trainer.strategy.broadcast(kept)
        if not kept:
            return
        worst, best = (min, max) if self.mode == "max" else (max, min)
        self.best_k_models = kept
        self.best_model_path = best(kept, key=lambda path: float(kept[path]))
        self.best_model_score = self.current_score = kept[self.best_model_path]
        if len(kept) >= self.save_top_k > 0:
            self.kth_best_model_path = worst(kept, key=lambda path: float(kept[path]))
            self.kth_value = kept[self.kth_best_model_path]

    def _copy(self, state: Mapping[str, Any], resumed: Path, step: int) -> dict[str, Tensor]:
        """Copy the files of a state, and return the copies' paths with their scores."""
        kept: dict[str, Tensor] = {}
        for name, score in state["best_k_models"].items():
            # Beside the file that was resumed from first: the run's folder may have been moved.
            places = (resumed.with_name(Path(name).name), Path(name))
            source = next((path for path in places if path.is_file()), None)
            try:
                if source is None:
                    raise UserError(f"{name} is not there any more")
                content = read_checkpoint(source)
            except UserError as error:
                rank_zero_warn(f"the best checkpoint is that of the rest of the training: {error}")
                continue
            if content["global_step"] > step:
                continue  # of a validation after the checkpoint, which comes again
            target = Path(str(self.dirpath)) / source.name
            content["mebert"].pop("exit_predictors", None)  # fitted again when training ends
            atomic_write(content, target)  # with weights that the other run has in its model folder
            kept[str(target)] = score
            rank_zero_info(f"best so far: {self.monitor} {float(score):.4f}, {source} copied to {target}")
        return kept
