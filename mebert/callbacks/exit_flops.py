"""FLOPs of every exit on the data at hand, and of the operating point on average."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from mebert.callbacks.base import BatchPlace, SplitCallback
from mebert.callbacks.curve import AccuracySpeedCurve
from mebert.models.flops import exit_flops, single_exit_flops
from mebert.modules.base import stage_prefix
from mebert.runtime.distributed import gather_rows

if TYPE_CHECKING:
    from mebert.modules import MultiExitModule


class ExitFLOPs(SplitCallback):
    """Logs FLOPs (2 x multiply-adds), analytic, at the samples' own lengths, padding left out.

    `val/exit_03/gflops` is the mean cost of a sample that leaves at exit 3, heads and policy included; it
    depends on the data alone and is logged once a stage. `val/gflops`, `val/speedup_flops` and
    `val/speedup_layers` are of the module's policy at its threshold, after every validation and test; they
    need an `AccuracySpeedCurve` among the callbacks, before this one, which holds where each sample left.
    """

    def __init__(self) -> None:
        self._lengths: dict[str, dict[str, list[Tensor]]] = {"train": {}, "val": {}, "test": {}}
        self._logged: set[str] = set()

    @override
    def on_split_batch(self, trainer: L.Trainer, module: Any, place: BatchPlace, outputs: Any, batch: Any) -> None:
        prefix = stage_prefix(trainer, place.stage, place.loader)
        if prefix in self._logged:
            return
        lengths = batch["attention_mask"].flatten(1).sum(1)
        # A padding row (index -1) gets length 0, which is left out later, without waiting for the accelerator.
        self._lengths[place.stage].setdefault(prefix, []).append(torch.where(outputs["index"] >= 0, lengths, 0))

    @override
    def on_split_end(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        self._log_exits(trainer, module, stage)
        if stage != "train":
            self._log_operating_point(trainer, module, stage)

    def _log_exits(self, trainer: L.Trainer, pl_module: MultiExitModule, stage: str) -> None:
        splits, self._lengths[stage] = self._lengths[stage], {}
        for prefix, parts in splits.items():
            read = gather_rows(torch.cat(parts))
            lengths, counts = torch.unique(read[read > 0], return_counts=True)
            weights = counts.double() / counts.sum()
            costs = (exit_flops(pl_module.model, lengths, pl_module.policy) * weights).sum(1) / 1e9
            plain = (single_exit_flops(pl_module.model, lengths) * weights).sum() / 1e9
            scalars = {f"{prefix}/exit_{e + 1:02d}/gflops": cost.float() for e, cost in enumerate(costs)}
            pl_module.log_dict({**scalars, f"{prefix}/plain/gflops": plain.float()}, sync_dist=True)
            self._logged.add(prefix)

    def _log_operating_point(self, trainer: L.Trainer, pl_module: MultiExitModule, stage: str) -> None:
        curve = next((c for c in trainer.callbacks if isinstance(c, AccuracySpeedCurve)), None)  # type: ignore[attr-defined]
        if curve is None:
            return
        for prefix, (point, plain_gflops) in curve.current[stage].items():
            values = {
                f"{prefix}/gflops": plain_gflops / point.speedup_flops,
                f"{prefix}/speedup_flops": point.speedup_flops,
                f"{prefix}/speedup_layers": point.speedup_layers,
            }
            pl_module.log_dict(values, sync_dist=True)
