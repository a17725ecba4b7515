"""The task's metrics of every exit.

Shapes: B batch, C classes, E exits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from mebert.callbacks.stages import main_metrics, stage_prefix
from mebert.metrics import make_metric, predictions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ExitAccuracy"]


class ExitAccuracy(L.Callback):
    """Logs the metrics of every exit, for training, validation and test.

    Names are `val/exit_03/acc` for each exit (from 1) and `val/mean/acc` for the mean over exits; which
    metrics is the data module's `metrics` (default: accuracy). `val/score` is the mean over exits of the main
    metric on the first validation split: the number by which the best checkpoint is chosen.

    Values are of the whole split, over all processes. Rows with index -1 (padding) do not count.

    Args:
        flush_every: Batches whose predictions are kept before they enter the metrics. Metrics are updated
            in bulk because an update for every exit and batch would wait for the accelerator each time.
    """

    def __init__(self, flush_every: int = 100) -> None:
        self.flush_every = flush_every
        self._stages: dict[str, dict[str, _SplitMetrics]] = {"train": {}, "val": {}, "test": {}}

    def _update(self, trainer: L.Trainer, module: L.LightningModule, stage: str, outputs: Any, loader: int = 0) -> None:
        if trainer.sanity_checking or not isinstance(outputs, Mapping) or outputs.get("labels") is None:
            return
        splits, prefix = self._stages[stage], stage_prefix(trainer, stage, loader)
        if prefix not in splits:
            logits = outputs["logits"]
            splits[prefix] = _SplitMetrics(main_metrics(trainer, logits.shape[-1]), logits, self.flush_every)
        splits[prefix].update(outputs["logits"], outputs["labels"], outputs["index"])

    def _log(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        splits, self._stages[stage] = self._stages[stage], {}
        if trainer.sanity_checking:
            return
        for number, (prefix, split) in enumerate(splits.items()):
            values = split.compute()
            scalars = {f"{prefix}/exit_{e + 1:02d}/{n}": v for n, vs in values.items() for e, v in enumerate(vs)}
            scalars |= {f"{prefix}/mean/{name}": v.mean() for name, v in values.items()}
            # The values are equal on all processes; `sync_dist` only says so to Lightning.
            module.log_dict(scalars, sync_dist=True)
            if stage == "val" and number == 0:
                module.log("val/score", values[split.names[0]].mean(), prog_bar=True, sync_dist=True)

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._update(trainer, pl_module, "train", outputs)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._log(trainer, pl_module, "train")

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
        self._update(trainer, pl_module, "val", outputs, dataloader_idx)

    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._log(trainer, pl_module, "val")

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
        self._update(trainer, pl_module, "test", outputs, dataloader_idx)

    @override
    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._log(trainer, pl_module, "test")


class _SplitMetrics:
    """The metrics of all exits over one pass of one split.

    Args:
        names: Names of the metrics, the main one first.
        logits: Logits (E, B, C) of the first batch: how many exits and classes there are, and on which
            device.
        flush_every: Batches between updates.
    """

    def __init__(self, names: Sequence[str], logits: Tensor, flush_every: int) -> None:
        num_exits, _, num_labels = logits.shape
        self.names = tuple(names)
        self.num_labels = num_labels
        self.flush_every = flush_every
        self._metrics = {
            name: [make_metric(name, num_labels).to(logits.device) for _ in range(num_exits)] for name in self.names
        }
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, index: Tensor) -> None:
        """Add a batch: logits (E, B, C), labels (B,), index (B,)."""
        self._waiting.append((predictions_of(logits.detach()), labels, index))
        if len(self._waiting) >= self.flush_every:
            self._flush()

    def compute(self) -> dict[str, Tensor]:
        """Metric name to the values of all exits, (E,), over all processes."""
        self._flush()
        return {name: torch.stack([m.compute().float() for m in ms]) for name, ms in self._metrics.items()}

    def _flush(self) -> None:
        if not self._waiting:
            return
        predictions, labels, index = zip(*self._waiting, strict=True)
        self._waiting = []
        rows = torch.cat(index) >= 0
        targets = torch.cat(labels)[rows]
        if not len(targets):  # padding alone, which torchmetrics does not take
            return
        if self.num_labels == 1:
            targets = targets.float()
        for exit_index, values in enumerate(torch.cat(predictions, 1)[:, rows]):
            for metrics in self._metrics.values():
                metrics[exit_index].update(values, targets)
