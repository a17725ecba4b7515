"""The task's metrics of every exit.

Shapes: B batch, C classes, E exits. With several labels a row, labels are (B, C) and logits (E, B, C, 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor
from typing_extensions import override

from mebert.callbacks.base import BatchPlace, SplitCallback, main_metrics
from mebert.choices import ProblemType
from mebert.errors import check_range
from mebert.metrics.collected import make_metric, update_metric
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import metric_input
from mebert.modules.base import stage_prefix
from mebert.runtime.messages import rank_zero_warn
from mebert.storage.spec_parts import checked_problem_type


class ExitAccuracy(SplitCallback):
    """Logs the metrics of every exit, for training, validation and test.

    Names are `val/exit_03/acc` for each exit (from 1) and `val/mean/acc` for the mean over exits; their
    names come from the data module's `metrics` (default: accuracy). `val/score` is the mean over exits of the main
    metric on the first validation split (or the module's own `score_of_exits`): the number by which the
    best checkpoint is chosen. It is NaN, and the checkpoint ranks last, where an exit has no value (a correlation of
    constant predictions).

    Values are of the whole split, over all processes. Rows with index -1 (padding) do not count.

    Args:
        flush_every: Batches whose predictions are kept before they enter the metrics. Metrics are updated
            in bulk because an update for every exit and batch would wait for the accelerator each time.
    """

    def __init__(self, flush_every: int = 100) -> None:
        check_range("exit_accuracy.flush_every", flush_every, 1)
        self.flush_every = flush_every
        self._stages: dict[str, dict[str, _SplitMetrics]] = {"train": {}, "val": {}, "test": {}}

    @override
    def on_split_batch(self, trainer: L.Trainer, module: Any, place: BatchPlace, outputs: Any, batch: Any) -> None:
        if outputs.get("labels") is None:
            return
        splits, prefix = self._stages[place.stage], stage_prefix(trainer, place.stage, place.loader)
        if prefix not in splits:
            logits, several = outputs["logits"], outputs["labels"].ndim == 2
            kind: ProblemType = (
                "multi_label_classification" if several else checked_problem_type(None, logits.shape[-1])
            )
            splits[prefix] = _SplitMetrics(main_metrics(trainer, kind), logits, self.flush_every, several)
        splits[prefix].update(outputs["logits"], outputs["labels"], outputs["index"], batch.get("query"))

    @override
    def on_split_end(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        splits, self._stages[stage] = self._stages[stage], {}
        for number, (prefix, split) in enumerate(splits.items()):
            values = split.compute()
            scalars = {f"{prefix}/exit_{e + 1:02d}/{n}": v for n, vs in values.items() for e, v in enumerate(vs)}
            scalars |= {f"{prefix}/mean/{name}": v.mean() for name, v in values.items()}
            if stage == "train":  # training rows need not hold a question that can be ranked
                scalars = {name: value for name, value in scalars.items() if not value.isnan()}
            # The values are equal on all processes; `sync_dist` only tells Lightning so.
            module.log_dict(scalars, sync_dist=True)
            if stage == "val" and number == 0:
                main = values[split.names[0]]
                score = getattr(module, "score_of_exits", torch.mean)(main)
                if score.isnan():
                    undefined = ", ".join(str(e + 1) for e in main.isnan().nonzero().flatten().tolist())
                    rank_zero_warn(
                        f"epoch {trainer.current_epoch + 1}: {split.names[0]} has no value at exit {undefined} (its "
                        "predictions or the labels are all equal, or there is no question to rank), so val/score is "
                        "NaN and the checkpoint ranks last"
                    )
                module.log("val/score", score, prog_bar=True, sync_dist=True)


class _SplitMetrics:
    """The metrics of all exits over one pass of one split; the first batch's logits (E, B, C) give shape and device."""

    def __init__(self, names: Sequence[str], logits: Tensor, flush_every: int, several: bool = False) -> None:
        num_exits, _, self.num_labels = logits.shape[:3]
        self.names, self.flush_every = tuple(names), flush_every
        self._metrics = {
            name: [make_metric(name, self.num_labels, several).to(logits.device) for _ in range(num_exits)]
            for name in names
        }
        # What must be kept for each kind of metric: predicted classes or values, or scores to rank by.
        self._kinds = {_kind(name): name for name in self.names}
        self._waiting: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, index: Tensor, queries: Tensor | None = None) -> None:
        """Add a batch: logits (E, B, C), labels (B,), index (B,), and questions (B,) of a ranking task."""
        batch = {"labels": labels, "index": index} | ({} if queries is None else {"query": queries})
        predicted = {kind: metric_input(name, logits.detach()).transpose(0, 1) for kind, name in self._kinds.items()}
        self._waiting.append(batch | predicted)
        if len(self._waiting) >= self.flush_every:
            self._flush()

    def compute(self) -> dict[str, Tensor]:
        """Metric name to the values of all exits, (E,), over all processes."""
        self._flush()
        return {name: torch.stack([m.compute().float() for m in ms]) for name, ms in self._metrics.items()}

    def _flush(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        kept = {name: torch.cat([batch[name] for batch in waiting]) for name in waiting[0]}
        rows = kept["index"] >= 0
        kept = {name: values[rows] for name, values in kept.items()}
        for name, metrics in self._metrics.items():
            labels, queries = kept["labels"], kept.get("query")
            for predicted, metric in zip(kept[_kind(name)].unbind(1), metrics, strict=True):
                update_metric(metric, predicted, labels, queries, regression=self.num_labels == 1)


def _kind(metric: str) -> str:
    return "scores" if metric in RANKING_METRICS else "predictions"
