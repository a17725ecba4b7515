"""Collects what the accuracy-speed curve needs, batch by batch, and joins it over all processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mebert.metrics.curve import ExitRecord
from mebert.models.windows import texts_of
from mebert.runtime.distributed import gather_rows

if TYPE_CHECKING:
    from mebert.exit_predictor import ExitPredictor
    from mebert.modules import MultiExitModule
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
        """Add a batch's logits (E, B, C), scores of the policies (E, B), labels, index and expected exits (B,).

        Scores are computed now, so that the features (E, B, F) need not be kept.
        """
        if outputs.get("labels") is None:
            return
        logits, features = outputs["logits"], outputs["features"]
        mask = batch["attention_mask"].flatten(1)  # of whole texts, where they are read in windows
        rows = {"logits": logits.transpose(0, 1), "labels": outputs["labels"], "index": outputs["index"]}
        rows |= {"lengths": mask.sum(1)} | {name: batch[name] for name in ("difficulty", "query") if name in batch}
        rows |= {f"score/{name}": policy.score_exits(logits, features, mask).T for name, policy in policies.items()}
        self._policies = policies
        for number, predictor in enumerate(predictors):
            predictor.to(logits.device)
            rows[f"predicted/{number}"] = predictor.predict(*texts_of(batch))
        for name, values in rows.items():
            self._parts.setdefault(name, []).append(values.detach())

    def gather(self, pl_module: MultiExitModule) -> ExitRecord | None:
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
        record = ExitRecord(
            logits=rows["logits"].transpose(0, 1).contiguous(),
            labels=rows["labels"],
            index=rows["index"],
            lengths=rows["lengths"],
            scores=scores,
            difficulty=rows.get("difficulty"),
            queries=rows.get("query"),
            predicted=[values for name, values in rows.items() if name.startswith("predicted/")],
            temperatures=pl_module.model.temperatures,
        )
        for policy in self._policies.values():
            policy.set_answers(record)
        return record
