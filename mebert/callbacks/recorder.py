"""Collects what the accuracy-speed curve needs, batch by batch, and joins it over all processes.

Shapes: B batch, C classes, E exits, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mebert.metrics.curve import ExitRecord
from mebert.runtime.distributed import gather_rows

if TYPE_CHECKING:
    from lightning import LightningModule

    from mebert.exit_predictor import ExitPredictor
    from mebert.policies import ExitPolicy


class ExitRecorder:
    """The growing record of one pass over one split."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def update(
        self,
        outputs: Mapping[str, Any],
        batch: Mapping[str, Any],
        policies: Mapping[str, ExitPolicy],
        predictors: Sequence[ExitPredictor] = (),
    ) -> None:
        """Add one batch; scores are computed now, so that the features need not be kept.

        Args:
            outputs: A step's outputs: logits (E, B, C), features (E, B, H), labels (B,), index (B,).
            batch: The batch itself; `attention_mask` and, where present, `difficulty` and `query` are read.
            policies: Name to policy whose scores are recorded.
            predictors: Those whose expected exits are recorded.
        """
        if outputs.get("labels") is None:
            return
        logits, features = outputs["logits"], outputs["features"]
        self._add("logits", logits.transpose(0, 1))
        self._add("labels", outputs["labels"])
        self._add("index", outputs["index"])
        self._add("lengths", batch["attention_mask"].sum(1))
        for name in ("difficulty", "query"):
            if name in batch:
                self._add(name, batch[name])
        for name, policy in policies.items():
            self._add(f"score/{name}", policy.score_exits(logits, features, batch["attention_mask"]).T)
        for number, predictor in enumerate(predictors):
            predictor.to(logits.device)
            self._add(f"predicted/{number}", predictor.predict(batch["input_ids"], batch["attention_mask"]))

    def gather(self, pl_module: LightningModule) -> ExitRecord | None:
        """The record of all processes on the CPU, in the order of the split; None where there were no labels.

        Rows with index -1 (padding) and repeated rows (a sampler that fills up with duplicates) are dropped.
        """
        if not self._parts:
            return None
        rows = {name: gather_rows(torch.cat(parts)).cpu() for name, parts in self._parts.items()}
        self._parts = {}
        order = rows["index"].argsort(stable=True)
        index = rows["index"][order]
        fresh = torch.ones_like(index, dtype=torch.bool)
        fresh[1:] = index[1:] != index[:-1]
        keep = order[fresh & (index >= 0)]
        rows = {name: values[keep] for name, values in rows.items()}
        scores = {n.removeprefix("score/"): v.T.contiguous() for n, v in rows.items() if n.startswith("score/")}
        return ExitRecord(
            logits=rows["logits"].transpose(0, 1).contiguous(),
            labels=rows["labels"],
            index=rows["index"],
            lengths=rows["lengths"],
            scores=scores,
            difficulty=rows.get("difficulty"),
            queries=rows.get("query"),
            predicted=[values for name, values in rows.items() if name.startswith("predicted/")],
        )

    def _add(self, name: str, rows: Tensor) -> None:
        self._parts.setdefault(name, []).append(rows.detach())
