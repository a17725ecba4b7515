"""The engine `refill`: survivors wait until a full batch can go on, so that batches never shrink.

Shapes: B batch, C classes, n rows of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from mebert.inference.engine import Finished, join_states, select_state
from mebert.inference.waiting import WaitingEngine

if TYPE_CHECKING:
    from mebert.models.layer_state import LayerState
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy


@dataclass
class _Group:
    """Rows that came to the same depth together."""

    state: LayerState
    rows: Tensor  # (n,)
    policy_state: Any
    fed: int
    model: MultiExitModel

    def select(self, places: Tensor) -> _Group:
        """Some of the rows, by their places (on the host)."""
        state, on_device = self.model.keep(self.state, places), places.to(self.rows.device)
        return _Group(
            state,
            self.rows.index_select(0, on_device),
            select_state(self.policy_state, on_device),
            self.fed,
            self.model,
        )

    def split(self, size: int) -> tuple[_Group, _Group]:
        """The first `size` rows, and the rest."""
        places = torch.arange(self.rows.shape[0])
        return self.select(places[:size]), self.select(places[size:])


class RefillEngine(WaitingEngine[_Group]):
    """Survivors wait in a queue for each exit until a full batch can run there, the deepest queue first.

    Deepest first empties the queues soonest. Without `max_waiting` at most `batch_size - 1` rows wait before each
    exit. `flush` runs what is left, the shallowest queue first: its survivors fill up the batches of the next.

    Arguments as `WaitingEngine`; `max_waiting` is 8 x `batch_size` by default.
    """

    def __init__(
        self,
        model: MultiExitModel,
        policy: ExitPolicy,
        batch_size: int = 32,
        max_waiting: int | None = None,
        max_wait: int | None = None,
    ) -> None:
        last = model.num_exits - 1
        self._stops = [index for index in range(last) if policy.may_leave(index)] + [last]
        most = 8 * batch_size if max_waiting is None else max_waiting
        super().__init__(model, policy, len(self._stops), batch_size, most, max_wait)

    @override
    @torch.inference_mode()
    def feed(self, inputs: dict[str, Tensor], rows: Tensor) -> Finished:
        self._fed += 1
        done: list[Finished] = []
        if rows.shape[0]:
            state = self.model.start(**inputs)
            device = state.hidden.device
            known = self.policy.start(inputs["attention_mask"].flatten(1).to(device))
            self._queues[0].append(_Group(state, rows.to(device), known, self._fed, self.model))
        while full := [depth for depth in range(len(self._queues)) if self._size(depth) >= self.batch_size]:
            done.append(self._run(full[-1]))
        for depth in range(len(self._queues)):  # survivors keep their age, and are late in the next queue, too
            while self._is_late(depth):
                done.append(self._run(depth))
        while self.waiting > self.max_waiting:
            done.append(self._run(self._fullest()))
        return self.joined(done)

    @override
    @torch.inference_mode()
    def flush(self) -> Finished:
        done = []
        for depth in range(len(self._queues)):
            while self._queues[depth]:
                done.append(self._run(depth))
        return self.joined(done)

    def _run(self, depth: int) -> Finished:
        """Run the oldest rows of a queue to its exit; survivors join the next queue."""
        group = self._join(self._take(depth, self.batch_size))
        index = self._stops[depth]
        state, logits, feature = self.model.step(group.state, index)
        if depth == len(self._stops) - 1:
            return Finished(group.rows, logits, torch.full_like(group.rows, index))
        leave, policy_state = self.policy.decide(index, logits, feature, group.policy_state)
        logits = self.policy.answer(index, logits, policy_state)
        group = _Group(state, group.rows, policy_state, group.fed, self.model)
        leaves = leave.cpu()  # the one synchronisation: how many stay
        stay = (~leaves).nonzero().squeeze(-1)
        if len(stay):
            self._queues[depth + 1].append(group.select(stay) if len(stay) < len(leaves) else group)
        if len(stay) == len(leaves):
            return self.joined([])
        gone = leaves.nonzero().squeeze(-1).to(group.rows.device)
        rows = group.rows.index_select(0, gone)
        return Finished(rows, logits.index_select(0, gone), torch.full_like(rows, index))

    def _join(self, groups: list[_Group]) -> _Group:
        if len(groups) == 1:
            return groups[0]
        return _Group(
            self.model.join([group.state for group in groups]),
            torch.cat([group.rows for group in groups]),
            join_states([group.policy_state for group in groups]),
            min(group.fed for group in groups),
            self.model,
        )
