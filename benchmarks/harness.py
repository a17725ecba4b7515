"""Train a module and record its evaluation splits in one pass: what the comparisons share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

from mebert.callbacks.recorder import ExitRecorder
from mebert.metrics.curve import ExitRecord, area_under_curve, point_at, sweep, threshold_for_speedup
from mebert.metrics.task import metric_value
from mebert.models.flops import exit_flops, single_exit_flops
from mebert.runtime.precision import pick_precision


@dataclass
class Trained:
    """A finished run.

    Attributes:
        records: Split name to what one pass over it recorded, with the weights of the last step.
        seconds: Training, validation left out.
        precision: As Lightning names it.
    """

    records: dict[str, ExitRecord]
    seconds: float
    precision: str


class _Recorder(L.Callback):
    """Records every evaluation batch."""

    def __init__(self) -> None:
        self.recorders: dict[int, ExitRecorder] = {}

    def take(self, module: Any) -> list[ExitRecord]:
        recorders, self.recorders = self.recorders, {}
        return [record for _, r in sorted(recorders.items()) if (record := r.gather(module)) is not None]

    def _add(self, module: Any, outputs: Any, batch: Any, loader: int) -> None:
        self.recorders.setdefault(loader, ExitRecorder()).update(outputs, batch, module.score_policies())

    def on_validation_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._add(module, outputs, batch, dataloader_idx)

    def on_test_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._add(module, outputs, batch, dataloader_idx)


def train(module: Any, data: Any, epochs: int, splits: Sequence[str] = ("val", "test"), accumulate: int = 1) -> Trained:
    """Train on the CPU, then one pass over the given splits (`val` and `test` mean all of their kind).

    A step is over `accumulate` batches.
    """
    recorder = _Recorder()
    precision: Any = pick_precision("cpu")[0]
    trainer = L.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        limit_val_batches=0,  # while it trains; the splits are recorded at the end
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[recorder],
    )
    begin = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - begin
    records: dict[str, ExitRecord] = {}
    if "val" in splits:
        evaluator = L.Trainer(
            accelerator="cpu", precision=precision, logger=False, enable_progress_bar=False, callbacks=[recorder]
        )
        evaluator.validate(module, datamodule=data, verbose=False)
        records |= dict(zip(data.validation_names, recorder.take(module), strict=True))
    if "test" in splits:
        trainer.test(module, datamodule=data, verbose=False)
        records |= dict(zip(data.test_names, recorder.take(module), strict=True))
    return Trained(records, seconds, str(precision))


def metric_of(record: ExitRecord, name: str) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """A metric as a function of logits (N, C) and labels (N,) of a whole record."""
    return lambda logits, labels: metric_value(name, logits, labels, record.queries)


def exit_metrics(record: ExitRecord, metrics: Sequence[str]) -> dict[str, list[float]]:
    """Metric name to its value at every exit."""
    return {name: [metric_of(record, name)(x, record.labels) for x in record.logits] for name in metrics}


def curve_figures(
    record: ExitRecord, module: Any, policy: str, metric: str, targets: Sequence[float]
) -> dict[str, Any]:
    """The accuracy-speed curve of a recorded policy, the area under it, and the metric at speed-ups by layers.

    The threshold for a speed-up is the one that gives it on these very rows: that needs no labels, so that nothing of
    the answers leaks, and all runs are compared at the same speed.
    """
    layers = module.model.exit_layers
    plain = single_exit_flops(module.model, record.lengths)
    costs = (exit_flops(module.model, record.lengths, module.policy), plain, metric_of(record, metric))
    points = sweep(record, policy, layers, *costs, num_points=60)
    at: dict[str, float | None] = {}
    for target in targets:
        threshold = threshold_for_speedup(record.scores[policy], layers, target)
        at[str(target)] = None if threshold is None else point_at(record, policy, threshold, layers, *costs).metric
    return {
        "area": area_under_curve(points),
        "at": at,
        "curve": [[round(p.speedup_layers, 4), round(p.metric, 5)] for p in points],
    }


def run_once(path: Path, run: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """Do a run that has no result yet and is not being done by another command; its result goes to the path as JSON.

    Returns:
        The result, or None where there was nothing to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    claim = path.with_suffix(".running")
    if path.exists():
        return None
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return None
    try:
        result = run()
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(result) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        claim.unlink()
    return result


def threads(count: int) -> None:
    """Set the number of threads of this process, before any work."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    torch.set_num_threads(count)
