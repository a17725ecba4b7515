"""What callbacks have in common: hooks over every split, its metrics, and a checked folder of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import lightning as L
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from mebert.choices import ProblemType
from mebert.data.unlabelled import labelled_part
from mebert.metrics.task import USUAL_METRICS
from mebert.storage.paths import check_output


class BatchPlace(NamedTuple):
    """Where a batch comes from: `stage` (train, val or test), its number and its data loader's, both from 0."""

    stage: str
    batch_idx: int
    loader: int


def _batch_hook(stage: str) -> Callable[..., None]:
    def hook(
        self: SplitCallback, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, loader: int = 0
    ) -> None:
        if not trainer.sanity_checking and isinstance(outputs, Mapping):
            if stage == "train" and "labels" in batch:
                batch = labelled_part(batch)  # the rows of the outputs
            self.on_split_batch(trainer, pl_module, BatchPlace(stage, batch_idx, loader), outputs, batch)

    return hook


def _end_hook(stage: str) -> Callable[..., None]:
    def hook(self: SplitCallback, trainer: Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self.on_split_end(trainer, pl_module, stage)

    return hook


class SplitCallback(L.Callback):
    """A callback that treats training, validation and test alike: two hooks instead of Lightning's six.

    The sanity check is left out, and so are batches whose step returned no mapping.
    """

    def on_split_batch(self, trainer: Trainer, module: Any, place: BatchPlace, outputs: Any, batch: Any) -> None:
        """A batch was processed; `outputs` is the mapping that the module's step returned."""

    def on_split_end(self, trainer: Trainer, module: Any, stage: str) -> None:
        """The last batch of an epoch was processed, of all data loaders of the stage."""

    on_train_batch_end, on_train_epoch_end = _batch_hook("train"), _end_hook("train")
    on_validation_batch_end, on_validation_epoch_end = _batch_hook("val"), _end_hook("val")
    on_test_batch_end, on_test_epoch_end = _batch_hook("test"), _end_hook("test")


class CheckedCheckpoint(ModelCheckpoint):
    """A `ModelCheckpoint` that checks before training, not after an epoch, that its folder can be written."""

    @override
    def setup(self, trainer: Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.is_global_zero and self.is_local:
            check_output("the folder of checkpoints", str(self.dirpath), folder=True)

    @property
    def is_local(self) -> bool:
        """Whether files go to a local folder and not to a URL."""
        return "://" not in str(self.dirpath)


def main_metrics(trainer: Trainer, problem_type: ProblemType) -> tuple[str, ...]:
    """The metrics that the data asks for, the main one first; the usual ones where it names none."""
    names = getattr(getattr(trainer, "datamodule", None), "metrics", None)
    return tuple(names or USUAL_METRICS[problem_type])
