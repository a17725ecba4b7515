"""Wall-clock speed-ups of a test: batches are kept while it runs and timed afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mebert.policies.stored_thresholds import within_range
from mebert.report.wall_clock import measure_speedups
from mebert.runtime.precision import inference_precision

if TYPE_CHECKING:
    import lightning as L

    from mebert.modules import MultiExitModule
    from mebert.report.evaluation import Evaluation


@dataclass
class WallClock:
    """Keeps batches of each data loader of a test and times them: at least `rounds` times, for about `budget` seconds.

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
        """Fill in the wall-clock speed-ups of the operating points."""
        batches = self.batches.get(loader, [])
        points = [point for ps in evaluation.points.values() for point in ps]
        if not batches or not points:
            return
        policies = module.score_policies()
        at_points = [policies[point.policy].with_threshold(within_range(point.threshold)) for point in points]
        precision = inference_precision(trainer.precision)
        speedups, samples, rounds = measure_speedups(
            module.model, at_points, batches, precision, self.rounds, self.budget
        )
        for point, speedup in zip(points, speedups, strict=True):
            point.speedup_wall = speedup
        device = module.device
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        threads = f", {torch.get_num_threads()} thread(s)" if device.type == "cpu" else ""
        evaluation.wall_setting = (
            f"shrink engine against the plain model, {samples} samples, batches of {len(batches[0]['index'])}, "
            f"{rounds} rounds in turn, {where}{threads}, {trainer.precision}"
        )
