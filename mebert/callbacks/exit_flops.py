"""What every exit costs on the data at hand, and what the operating point costs on average.

Shapes: E exits, S tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from mebert.callbacks.base import stage_prefix
from mebert.callbacks.curve import AccuracySpeedCurve
from mebert.models.flops import exit_flops, single_exit_flops

if TYPE_CHECKING:
    from mebert.modules import MultiExitModule

__all__ = ["ExitFLOPs"]


class ExitFLOPs(L.Callback):
    """Logs FLOPs (2 x multiply-adds), analytic, at the samples' own lengths, padding left out.

    `val/exit_03/gflops` is the mean cost of a sample that leaves at exit 3, heads and policy included; it
    depends on the data alone and is logged once a stage. `val/gflops`, `val/speedup_flops` and
    `val/speedup_layers` are of the module's policy at its threshold, after every validation and test; they
    need an `AccuracySpeedCurve` among the callbacks, before this one, which holds where each sample left.
    """

    def __init__(self) -> None:
        self._lengths: dict[str, dict[str, list[Tensor]]] = {"train": {}, "val": {}, "test": {}}
        self._logged: set[str] = set()

    def _update(self, trainer: L.Trainer, outputs: Any, batch: Any, stage: str, loader: int = 0) -> None:
        prefix = stage_prefix(trainer, stage, loader)
        if trainer.sanity_checking or prefix in self._logged or not isinstance(outputs, Mapping):
            return
        lengths = batch["attention_mask"].sum(1)
        # A padding row (index -1) counts as length 0, which is left out later: no need to wait for the
        # accelerator.
        self._lengths[stage].setdefault(prefix, []).append(torch.where(outputs["index"] >= 0, lengths, 0))

    def _log_exits(self, trainer: L.Trainer, pl_module: MultiExitModule, stage: str) -> None:
        splits, self._lengths[stage] = self._lengths[stage], {}
        for prefix, parts in splits.items():
            longest = pl_module.model.adapter.max_length
            counts = torch.bincount(torch.cat(parts).clamp(max=longest), minlength=longest + 1).double()
            counts = trainer.strategy.reduce(counts, reduce_op="sum")
            counts[0] = 0
            lengths = counts.nonzero().squeeze(-1)
            weights = counts[lengths] / counts.sum()
            costs = (exit_flops(pl_module.model, lengths, pl_module.policy) * weights).sum(1) / 1e9
            plain = (single_exit_flops(pl_module.model, lengths) * weights).sum() / 1e9
            scalars = {f"{prefix}/exit_{e + 1:02d}/gflops": cost.float() for e, cost in enumerate(costs)}
            pl_module.log_dict({**scalars, f"{prefix}/plain/gflops": plain.float()}, sync_dist=True)
            self._logged.add(prefix)

    def _log_operating_point(self, trainer: L.Trainer, pl_module: MultiExitModule, stage: str) -> None:
        curve = next((c for c in trainer.callbacks if isinstance(c, AccuracySpeedCurve)), None)  # type: ignore[attr-defined]
        if trainer.sanity_checking or curve is None:
            return
        for prefix, (point, plain_gflops) in curve.current[stage].items():
            values = {
                f"{prefix}/gflops": plain_gflops / point.speedup_flops,
                f"{prefix}/speedup_flops": point.speedup_flops,
                f"{prefix}/speedup_layers": point.speedup_layers,
            }
            pl_module.log_dict(values, sync_dist=True)

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._update(trainer, outputs, batch, "train")

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        self._log_exits(trainer, pl_module, "train")

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
        self._update(trainer, outputs, batch, "val", dataloader_idx)

    @override
    def on_validation_epoch_end(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: MultiExitModule
    ) -> None:
        self._log_exits(trainer, pl_module, "val")
        self._log_operating_point(trainer, pl_module, "val")

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
        self._update(trainer, outputs, batch, "test", dataloader_idx)

    @override
    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        self._log_exits(trainer, pl_module, "test")
        self._log_operating_point(trainer, pl_module, "test")
