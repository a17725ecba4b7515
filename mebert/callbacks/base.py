"""What callbacks that measure have in common: hooks over every split, its metric prefix and its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning import Trainer
from typing_extensions import override


class SplitCallback(L.Callback):
    """A callback that treats training, validation and test alike: two hooks instead of Lightning's six.

    The sanity check is left out, and so are batches whose step returned no mapping.
    """

    def on_split_batch(
        self,
        trainer: Trainer,
        module: Any,
        stage: str,
        outputs: Mapping[str, Any],
        batch: Any,
        batch_idx: int,
        loader: int,
    ) -> None:
        """A batch was processed.

        Args:
            trainer: The trainer.
            module: The module.
            stage: `train`, `val` or `test`.
            outputs: Output of the module's step.
            batch: The batch.
            batch_idx: Its number, from 0.
            loader: Number of the stage's data loader, from 0.
        """

    def on_split_end(self, trainer: Trainer, module: Any, stage: str) -> None:
        """The last batch of an epoch was processed, of all data loaders of the stage."""

    def _batch(self, trainer: Trainer, module: Any, stage: str, outputs: Any, *rest: Any) -> None:
        if not trainer.sanity_checking and isinstance(outputs, Mapping):
            self.on_split_batch(trainer, module, stage, outputs, *rest)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch(trainer, pl_module, "train", outputs, batch, batch_idx, 0)

    @override
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch(trainer, pl_module, "val", outputs, batch, batch_idx, dataloader_idx)

    @override
    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batch(trainer, pl_module, "test", outputs, batch, batch_idx, dataloader_idx)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: L.LightningModule) -> None:
        self.on_split_end(trainer, pl_module, "train")

    @override
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.on_split_end(trainer, pl_module, "val")

    @override
    def on_test_epoch_end(self, trainer: Trainer, pl_module: L.LightningModule) -> None:
        self.on_split_end(trainer, pl_module, "test")


def stage_prefix(trainer: Trainer, stage: str, dataloader_idx: int = 0) -> str:
    """The prefix of a split's metrics, as its data module names it.

    Args:
        trainer: Its data module may have `validation_names` and `test_names`.
        stage: `train`, `val` or `test`.
        dataloader_idx: Which loader of the stage, from 0.
    """
    attribute = {"val": "validation_names", "test": "test_names"}.get(stage, "")
    names = getattr(getattr(trainer, "datamodule", None), attribute, None) or [stage]
    if dataloader_idx < len(names):
        return str(names[dataloader_idx])
    return f"{stage}_{dataloader_idx}"


def main_metrics(trainer: Trainer, num_labels: int) -> tuple[str, ...]:
    """The metrics that the data asks for, the main one first; accuracy (or Pearson) where it names none."""
    names = getattr(getattr(trainer, "datamodule", None), "metrics", None)
    if names:
        return tuple(names)
    return ("pearson", "spearman") if num_labels == 1 else ("acc",)
