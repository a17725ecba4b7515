"""Wall-clock speed-ups of a test: batches are kept while it runs and timed afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mebert.policies.base import LOOSEST
from mebert.report.wall_clock import measure_speedups, told_apart
from mebert.runtime.precision import inference_precision
from mebert.storage.thresholds import numbers_of

if TYPE_CHECKING:
    import lightning as L

    from mebert.modules import MultiExitModule
    from mebert.report.evaluation import Evaluation


@dataclass
class WallClock:
    """Keeps batches of each data loader of a test and times them in `rounds`, for at most about `budget` seconds.

    With `samples` 0 nothing is kept.
    """

    samples: int
    rounds: int
    budget: float
    batches: dict[int, list[dict[str, Tensor]]] = field(default_factory=dict)

    def offer(self, batch: Mapping[str, Tensor], batch_idx: int, total: float, loader: int) -> None:
        """Keep a batch if it is wanted; `total` is the loader's number of batches (if infinite, none is kept)."""
        if not self.samples:
            return
        wanted = -(-self.samples // len(batch["index"]))
        kept = self.batches.setdefault(loader, [])
        # Evenly spaced: batches are sorted by length, and all lengths should be there.
        if len(kept) < wanted and batch_idx * wanted >= len(kept) * total:
            kept.append({name: value.cpu() for name, value in batch.items()})

    def measure(self, trainer: L.Trainer, module: MultiExitModule, evaluation: Evaluation, loader: int) -> None:
        """Fill in the wall-clock speed-ups of the operating points, but not those that the rounds do not tell apart."""
        batches = self.batches.get(loader, [])
        groups = [*evaluation.points.values(), *([] if evaluation.current is None else [[evaluation.current]])]
        points = [point for group in groups for point in group]
        if not batches or not points:
            return
        policies = module.score_policies()
        limits = [tuple(min(n, LOOSEST) for n in numbers_of(point.threshold)) for point in points]
        at_points = [
            policies[point.policy].with_threshold(limit if isinstance(point.threshold, tuple) else limit[0])
            for point, limit in zip(points, limits, strict=True)
        ]
        precision = inference_precision(trainer.precision)
        found, samples = measure_speedups(module.model, at_points, batches, precision, self.rounds, self.budget)
        timings = iter(found)
        for of_policy in groups:  # those of a policy are told apart; the one in use from the plain model alone
            timed = [next(timings) for _ in of_policy]
            told = told_apart(timed, [point.speedup_layers for point in of_policy])
            for point, timing, clear in zip(of_policy, timed, told, strict=True):
                point.speedup_wall_range = timing.low, timing.high
                point.speedup_wall = timing.speedup if clear else None
        device = module.device
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        threads = f", {torch.get_num_threads()} thread(s)" if device.type == "cpu" else ""
        evaluation.wall_setting = (
            f"shrink engine against the plain model, {samples:,} samples, batches of {len(batches[0]['index'])}, "
            f"{self.rounds} rounds in turn, {where}{threads}, {trainer.precision}"
        )
