"""One pass over labelled rows: every exit's logits and every policy's scores.

Shapes: N rows, B batch, P policies, E exits, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mebert.data.scoring import map_rows
from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.models.windows import texts_of
from mebert.policies import ExitPolicy
from mebert.runtime.progress import Progress


def record_rows(
    model: MultiExitModel,
    policies: Sequence[ExitPolicy],
    rows: TokenisedSplit,
    collate_batch: Callable[..., dict[str, Tensor]],
    batch_size: int = 64,
) -> ExitRecord:
    """Run all exits on all rows, which must have labels; the record is in their order, on the CPU."""
    if rows.labels is None or not len(rows):
        raise UserError("calibration needs rows with labels, and there are none")

    def score(batch: Mapping[str, Tensor]) -> Tensor:
        """Flat logits (E, B, C) and scores (P, E, B) side by side, (B, E, C + P)."""
        inputs = model_inputs(batch)
        outputs = model(**inputs)
        scores = [policy.score_exits(outputs.logits, outputs.features, texts_of(inputs)[1]) for policy in policies]
        columns = [outputs.logits.float().flatten(2), *(one.float().unsqueeze(-1) for one in scores)]
        return torch.cat(columns, dim=-1).transpose(0, 1)

    device = next(model.parameters()).device
    with Progress(f"reading {len(rows):,} rows", -(-len(rows) // batch_size)) as bar:
        found = map_rows(rows, collate_batch, score, batch_size, device, bar.tick).transpose(0, 1)
    names = [policy.name for policy in policies]
    logits, scores = found.split([found.shape[-1] - len(names), len(names)], dim=-1)
    record = ExitRecord(
        logits=logits.reshape(*logits.shape[:2], *model.logits_shape),
        labels=torch.from_numpy(rows.labels),
        index=torch.from_numpy(rows.index),
        lengths=torch.from_numpy(rows.lengths),
        scores={name: values.contiguous() for name, values in zip(names, scores.unbind(-1), strict=True)},
        queries=None if rows.queries is None else torch.from_numpy(rows.queries),
        temperatures=model.temperatures,
    )
    for policy in policies:
        policy.set_answers(record)
    return record
