"""Engines that finish each batch at once: `full` runs all layers, then decides; `shrink` drops samples as they leave.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from mebert.inference.engine import Engine, ExitDecisions, ExitRule, Finished, select_state

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel


@torch.inference_mode()
def run_full(model: MultiExitModel, policy: ExitRule, inputs: dict[str, Tensor]) -> ExitDecisions:
    """All layers for all samples, then the decisions: the reference, and the fastest if no sample leaves early.

    Args:
        model: In evaluation mode.
        policy: Bound to the model.
        inputs: `input_ids`, `attention_mask` and, if the model reads it, `token_type_ids`, each (B, S) or, of texts in
            windows, (B, W, S).
    """
    last = model.num_exits - 1
    state = model.start(**inputs)
    exits = torch.full((inputs["input_ids"].shape[0],), last, device=state.hidden.device)
    result: Tensor | None = None
    staying: Tensor | None = None
    policy_state: Any = policy.start(inputs["attention_mask"].flatten(1).to(state.hidden.device))
    for index in filter(policy.may_leave, range(last)):
        state, logits, features = model.step(state, index)
        leave, policy_state = policy.decide(index, logits, features, policy_state)
        logits = policy.answer(index, logits, policy_state)
        if result is None or staying is None:
            result, staying = logits, torch.ones_like(leave)
        now = staying & leave
        exits = torch.where(now, index, exits)
        # Those that stay get the logits of a later exit in any case.
        result = torch.where(_beside(staying, logits), logits, result)
        staying = staying & ~leave
    _, logits, _ = model.step(state, last)
    if result is not None and staying is not None:
        logits = torch.where(_beside(staying, logits), logits, result)
    return ExitDecisions(logits, exits)


def _beside(rows: Tensor, logits: Tensor) -> Tensor:
    """Values of rows (B,), with the dimensions of logits (B, C) or (B, C, 2)."""
    return rows.view(-1, *[1] * (logits.ndim - 1))


@torch.inference_mode()
def run_shrink(model: MultiExitModel, policy: ExitRule, inputs: dict[str, Tensor]) -> ExitDecisions:
    """Survivors go on in a smaller batch; hidden states, masks and the policy's state are filtered together.

    One synchronisation per exit on an accelerator: the number of survivors must be known. Exits at which no sample may
    leave are not computed. Arguments as `run_full`.
    """
    state = model.start(**inputs)
    batch, last = inputs["input_ids"].shape[0], model.num_exits - 1
    device = state.hidden.device
    rows: Tensor | None = None  # the survivors' places in the batch; None: all of it
    result: Tensor | None = None
    exits = torch.full((batch,), last, device=device)
    policy_state: Any = policy.start(inputs["attention_mask"].flatten(1).to(state.hidden.device))
    for index in filter(policy.may_leave, range(last)):
        state, logits, feature = model.step(state, index)
        leave, policy_state = policy.decide(index, logits, feature, policy_state)
        logits = policy.answer(index, logits, policy_state)
        if batch == 1:
            if bool(leave):
                return ExitDecisions(logits, exits.fill_(index))
            continue
        places = (~leave.cpu()).nonzero().squeeze(-1)  # on the host, where the engine has to know their number
        if len(places) == len(leave):
            continue
        stay = places.to(device)
        # The logits of all rows are written: a later exit overwrites those of the rows that stay.
        if rows is None or result is None:
            result, rows = logits, stay
            exits = torch.where(leave, index, exits)
        else:
            result[rows] = logits
            exits[rows] = torch.where(leave, index, last)
            rows = rows[stay]
        if not len(places):
            return ExitDecisions(result, exits)
        state = model.keep(state, places)
        policy_state = select_state(policy_state, stay)
    _, logits, _ = model.step(state, last)
    if rows is None or result is None:
        return ExitDecisions(logits, exits)
    result[rows] = logits
    return ExitDecisions(result, exits)


class _WholeBatchEngine(Engine):
    """Finishes every batch in one call of `run`."""

    run: Callable[[MultiExitModel, ExitRule, dict[str, Tensor]], ExitDecisions]

    @override
    def feed(self, inputs: dict[str, Tensor], rows: Tensor) -> Finished:
        if not rows.shape[0]:
            return self.joined([])
        decisions = self.run(self.model, self.policy, inputs)
        return Finished(rows.to(decisions.exits.device), decisions.logits, decisions.exits)


class FullEngine(_WholeBatchEngine):
    """All layers for all samples, then the decisions."""

    run = staticmethod(run_full)


class ShrinkEngine(_WholeBatchEngine):
    """Samples leave the batch as soon as they may; the batch goes on smaller."""

    run = staticmethod(run_shrink)
