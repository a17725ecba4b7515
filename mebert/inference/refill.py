"""The engine `refill`: survivors wait until a full batch can go on, so that batches never shrink.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from mebert.errors import UserError
from mebert.inference.engine import Engine, Finished, join_states, keep_state

if TYPE_CHECKING:
    from mebert.models.encoder import LayerState
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy

__all__ = ["RefillEngine"]


@dataclass
class _Group:
    """Rows that came to the same depth together."""

    state: LayerState
    rows: Tensor  # (n,)
    policy_state: Any
    fed: int  # number of the feed with which the oldest of them came

    def __len__(self) -> int:
        return self.rows.shape[0]

    def keep(self, places: Tensor) -> _Group:
        """Some of the rows, by their places (on the host)."""
        state, on_device = self.state.keep(places), places.to(self.rows.device)
        return _Group(state, self.rows.index_select(0, on_device), keep_state(self.policy_state, on_device), self.fed)

    def cut(self, size: int) -> tuple[_Group, _Group]:
        """The first `size` rows, and the rest."""
        places = torch.arange(len(self))
        return self.keep(places[:size]), self.keep(places[size:])


class RefillEngine(Engine):
    """Survivors wait in a queue for each exit until a full batch can run there, the deepest queue first.

    Deepest first empties the queues soonest. Without `max_waiting` at most `batch_size - 1` rows wait before each
    exit. `flush` runs what is left, the shallowest queue first: its survivors fill up the batches of the next.

    Args:
        model: In evaluation mode.
        policy: Bound to the model.
        batch_size: Rows of a full batch, at least 1.
        max_waiting: Most rows that may wait after a feed; where more would, the fullest queue runs as it is. None:
            8 x `batch_size`.
        max_wait: A row is done at the latest when this many further batches have been fed (0: at once); None: when it
            comes to it. For streams whose answers must not be held back.

    Raises:
        UserError: A setting out of range.
    """

    name = "refill"

    def __init__(
        self,
        model: MultiExitModel,
        policy: ExitPolicy,
        batch_size: int = 32,
        max_waiting: int | None = None,
        max_wait: int | None = None,
    ) -> None:
        super().__init__(model, policy)
        self.batch_size = batch_size
        self.max_waiting = 8 * batch_size if max_waiting is None else max_waiting
        self.max_wait = max_wait
        check_settings(batch_size, self.max_waiting, max_wait)
        last = model.num_exits - 1
        self._stops = [index for index in range(last) if policy.may_leave(index)] + [last]
        self._queues: list[list[_Group]] = [[] for _ in self._stops]
        self._fed = 0

    @property
    @override
    def waiting(self) -> int:
        return sum(map(self._size, range(len(self._queues))))

    @override
    @torch.inference_mode()
    def feed(self, inputs: dict[str, Tensor], rows: Tensor) -> Finished:
        self._fed += 1
        done: list[Finished] = []
        if rows.shape[0]:
            state = self.model.start(**inputs)
            device = state.hidden.device
            known = self.policy.start(inputs["attention_mask"].to(device))
            self._queues[0].append(_Group(state, rows.to(device), known, self._fed))
        while (depth := self._deepest_full()) is not None:
            done.append(self._run(depth))
        if self.max_wait is not None:
            for depth in range(len(self._queues)):  # survivors are as old, and meet the next queue's turn
                while self._queues[depth] and min(g.fed for g in self._queues[depth]) + self.max_wait <= self._fed:
                    done.append(self._run(depth))
        while self.waiting > self.max_waiting:
            sizes = [self._size(depth) for depth in range(len(self._queues))]
            done.append(self._run(max(range(len(sizes)), key=lambda d: (sizes[d], d))))
        return Finished.join(done, self.model.num_labels, self.device)

    @override
    @torch.inference_mode()
    def flush(self) -> Finished:
        done = []
        for depth in range(len(self._queues)):
            while self._queues[depth]:
                done.append(self._run(depth))
        return Finished.join(done, self.model.num_labels, self.device)

    def _size(self, depth: int) -> int:
        return sum(map(len, self._queues[depth]))

    def _deepest_full(self) -> int | None:
        for depth in reversed(range(len(self._queues))):
            if self._size(depth) >= self.batch_size:
                return depth
        return None

    def _run(self, depth: int) -> Finished:
        """Run the oldest rows of a queue to its exit; survivors join the next queue."""
        group = self._take(depth)
        index = self._stops[depth]
        state, logits, feature = self.model.step(group.state, index)
        if depth == len(self._stops) - 1:
            return Finished(group.rows, logits, torch.full_like(group.rows, index))
        leave, policy_state = self.policy.decide(index, logits, feature, group.policy_state)
        group = _Group(state, group.rows, policy_state, group.fed)
        leaves = leave.cpu()  # the one synchronisation: how many stay
        stay = (~leaves).nonzero().squeeze(-1)
        if len(stay):
            self._queues[depth + 1].append(group.keep(stay) if len(stay) < len(group) else group)
        if len(stay) == len(group):
            return Finished.none(self.model.num_labels, self.device)
        gone = leaves.nonzero().squeeze(-1).to(group.rows.device)
        rows = group.rows.index_select(0, gone)
        return Finished(rows, logits.index_select(0, gone), torch.full_like(rows, index))

    def _take(self, depth: int) -> _Group:
        queue = self._queues[depth]
        taken: list[_Group] = []
        missing = self.batch_size
        while queue and missing:
            group = queue.pop(0)
            if len(group) > missing:
                group, rest = group.cut(missing)
                queue.insert(0, rest)
            taken.append(group)
            missing -= len(group)
        if len(taken) == 1:
            return taken[0]
        return _Group(
            self.model.adapter.join([group.state for group in taken]),
            torch.cat([group.rows for group in taken]),
            join_states([group.policy_state for group in taken]),
            min(group.fed for group in taken),
        )


def check_settings(batch_size: int, max_waiting: int, max_wait: int | None) -> None:
    """Raise a UserError for a setting out of range."""
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    if max_waiting < 0:
        raise UserError(f"max_waiting must be at least 0, got {max_waiting}")
    if max_wait is not None and max_wait < 0:
        raise UserError(f"max_wait must be at least 0, got {max_wait}")
