"""Engines: how a policy's decisions are carried out on a batch.

`full` runs every layer and then decides; `shrink` drops samples from the batch as they leave. Both take the exits
that the policy names, to floating-point tolerance, whatever the batch. Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mebert.models.multi_exit import MultiExitModel
from mebert.policies import ExitPolicy

__all__ = ["ENGINES", "EngineName", "ExitDecisions", "run_full", "run_shrink"]

EngineName = Literal["shrink", "full"]


@dataclass
class ExitDecisions:
    """Where the samples of a batch left, in the batch's order.

    Attributes:
        logits: Logits of the exit taken, (B, C) float32.
        exits: 0-based exit taken, (B,) int64.
    """

    logits: Tensor
    exits: Tensor


@torch.no_grad()
def run_full(model: MultiExitModel, policy: ExitPolicy, inputs: dict[str, Tensor]) -> ExitDecisions:
    """All layers for all samples, then the decisions: the reference, and the fastest where nothing leaves.

    Args:
        model: In evaluation mode.
        policy: Bound to the model.
        inputs: `input_ids`, `attention_mask` and, if the model reads it, `token_type_ids`, each (B, S).
    """
    out = model(**inputs)
    last = model.num_exits - 1
    exits = torch.full((out.logits.shape[1],), last, device=out.logits.device)
    staying = torch.ones_like(exits, dtype=torch.bool)
    state: Any = None
    for index in range(last):
        leave, state = policy.decide(index, out.logits[index], out.features[index], state)
        exits = torch.where(staying & leave, index, exits)
        staying = staying & ~leave
    rows = torch.arange(exits.shape[0], device=exits.device)
    return ExitDecisions(out.logits[exits, rows], exits)


@torch.no_grad()
def run_shrink(model: MultiExitModel, policy: ExitPolicy, inputs: dict[str, Tensor]) -> ExitDecisions:
    """Survivors go on in a smaller batch; hidden states, masks and the policy's state are filtered together.

    One synchronisation an exit on an accelerator: the number of survivors must be known. Arguments as `run_full`.
    """
    state = model.start(**inputs)
    batch, last = inputs["input_ids"].shape[0], model.num_exits - 1
    device = state.hidden.device
    rows = torch.arange(batch, device=device)  # the survivors' places in the batch
    exits = torch.full((batch,), last, device=device)
    result = torch.zeros(batch, model.num_labels, device=device)
    policy_state: Any = None
    for index in range(model.num_exits):
        state, logits, feature = model.step(state, index)
        if index == last:
            result[rows] = logits
            break
        leave, policy_state = policy.decide(index, logits, feature, policy_state)
        stay = (~leave).nonzero().squeeze(-1)
        if len(stay) == len(rows):
            continue
        gone = leave.nonzero().squeeze(-1)
        result[rows[gone]] = logits[gone]
        exits[rows[gone]] = index
        if not len(stay):
            break
        rows = rows[stay]
        state = state.keep(stay)
        policy_state = _keep(policy_state, stay)
    return ExitDecisions(result, exits)


def _keep(state: Any, rows: Tensor) -> Any:
    """A policy's state for some rows: None, a tensor with the batch first, or a tuple of such."""
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    return tuple(_keep(part, rows) for part in state)


ENGINES: dict[str, Callable[[MultiExitModel, ExitPolicy, dict[str, Tensor]], ExitDecisions]] = {
    "full": run_full,
    "shrink": run_shrink,
}
