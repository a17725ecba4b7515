"""One pass over labelled rows: every exit's logits and every policy's scores.

Shapes: N rows, E exits, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord
from mebert.models.multi_exit import MultiExitModel, model_inputs
from mebert.policies import ExitPolicy
from mebert.runtime.progress import Progress

__all__ = ["record_rows"]


@torch.no_grad()
def record_rows(
    model: MultiExitModel,
    policies: Sequence[ExitPolicy],
    rows: TokenisedSplit,
    collate_batch: Callable[..., dict[str, Tensor]],
    batch_size: int = 64,
) -> ExitRecord:
    """Run all exits on all rows, the longest first; the record is in the order of the rows, on the CPU.

    Args:
        model: In evaluation mode, on any device: the trained one, or one prepared for inference, whose exits are then
            exactly those that its precision takes.
        policies: Bound to it, with different names.
        rows: The rows, with labels.
        collate_batch: Rows to a batch.
        batch_size: Rows a batch.

    Raises:
        UserError: The rows have no labels, or there are none.
    """
    if rows.labels is None or not len(rows):
        raise UserError("calibration needs rows with labels, and there are none")
    device = next(model.parameters()).device
    order = np.argsort(-rows.lengths, kind="stable")
    logits: list[Tensor] = []
    scores: dict[str, list[Tensor]] = {policy.name: [] for policy in policies}
    with Progress(f"reading {len(rows):,} rows", -(-len(order) // batch_size)) as bar:
        for start in range(0, len(order), batch_size):
            batch = collate_batch([rows[int(row)] for row in order[start : start + batch_size]])
            inputs = {name: value.to(device) for name, value in model_inputs(batch).items()}
            outputs = model(**inputs)
            logits.append(outputs.logits.float().cpu())
            for policy in policies:
                found = policy.score_exits(outputs.logits, outputs.features, inputs["attention_mask"])
                scores[policy.name].append(found.cpu())
            bar.tick()
    place = torch.from_numpy(np.argsort(order))  # where each row came in the order of the pass
    return ExitRecord(
        logits=torch.cat(logits, dim=1)[:, place],
        labels=torch.from_numpy(rows.labels),
        index=torch.from_numpy(rows.index),
        lengths=torch.from_numpy(rows.lengths),
        scores={name: torch.cat(parts, dim=1)[:, place] for name, parts in scores.items()},
        queries=None if rows.queries is None else torch.from_numpy(rows.queries),
    )
