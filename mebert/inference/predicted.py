"""The engine `predicted`: the exit is predicted before the layers run, and no exit is tested (GEEP).

Source: Li et al., Frontiers of Computer Science 18(3) 183308. Shapes: B batch, C classes, S tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from mebert.errors import UserError
from mebert.inference.engine import Engine, Finished
from mebert.inference.refill import check_settings

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy

__all__ = ["PredictedEngine", "PredictsExits"]

Inputs = dict[str, Tensor]


class PredictsExits(Protocol):
    """What the engine asks of a predictor; see `mebert.exit_predictor`."""

    def predict(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask (B, S) to 0-based exits, (B,) int64."""


@dataclass
class _Group:
    """Rows with one predicted exit that were fed together."""

    inputs: Inputs
    rows: Tensor  # (n,)
    fed: int

    def __len__(self) -> int:
        return self.rows.shape[0]


class PredictedEngine(Engine):
    """Rows are sorted by predicted exit, and a full batch runs straight to its exit and applies that one head.

    `flush` runs what is left in batches of mixed exits, whose rows leave where they were predicted to. There is no
    exit test; an accelerator is waited for once a fed batch, for the sorting, and once a batch that runs, for its
    lengths, before its layers.

    Args:
        model: In evaluation mode.
        policy: Not asked; every engine has one.
        predictor: Its `predict` gives the exits.
        batch_size: Rows of a full batch, at least 1.
        max_waiting: Most rows that may wait after a feed; the fullest queue runs first. None: 64 x `batch_size` (what
            waits is token ids only).
        max_wait: A row is done at the latest when this many further batches have been fed; None: when it comes to it.

    Raises:
        UserError: No predictor, or a setting out of range.
    """

    name = "predicted"

    def __init__(
        self,
        model: MultiExitModel,
        policy: ExitPolicy,
        predictor: PredictsExits | None = None,
        batch_size: int = 32,
        max_waiting: int | None = None,
        max_wait: int | None = None,
    ) -> None:
        super().__init__(model, policy)
        if predictor is None:
            raise UserError("the engine 'predicted' needs an exit predictor, and this model has none")
        self.predictor = predictor
        self.batch_size = batch_size
        self.max_waiting = 64 * batch_size if max_waiting is None else max_waiting
        self.max_wait = max_wait
        check_settings(batch_size, self.max_waiting, max_wait)
        self._queues: list[list[_Group]] = [[] for _ in range(model.num_exits)]
        self._fed = 0

    @property
    @override
    def waiting(self) -> int:
        return sum(map(self._size, range(len(self._queues))))

    @override
    @torch.inference_mode()
    def feed(self, inputs: Inputs, rows: Tensor) -> Finished:
        self._fed += 1
        done: list[Finished] = []
        if rows.shape[0]:
            self._sort(inputs, rows.to(inputs["input_ids"].device))
        for index in reversed(range(len(self._queues))):
            while self._size(index) >= self.batch_size:
                done.append(self._run([self._take(index, self.batch_size)], [index]))
        if self.max_wait is not None:
            late = [
                index
                for index, queue in enumerate(self._queues)
                if any(group.fed + self.max_wait <= self._fed for group in queue)
            ]
            done += self._run_all(late)
        while self.waiting > self.max_waiting:
            sizes = [self._size(index) for index in range(len(self._queues))]
            done += self._run_all([max(range(len(sizes)), key=lambda e: (sizes[e], e))])
        return Finished.join(done, self.model.num_labels, self.device)

    @override
    @torch.inference_mode()
    def flush(self) -> Finished:
        return Finished.join(self._run_all(list(range(len(self._queues)))), self.model.num_labels, self.device)

    def _sort(self, inputs: Inputs, rows: Tensor) -> None:
        exits = self.predictor.predict(inputs["input_ids"], inputs["attention_mask"])
        known = exits.cpu()  # the one synchronisation
        for index in known.unique().tolist():
            places = (known == index).nonzero().squeeze(-1).to(rows.device)
            part = {name: value.index_select(0, places) for name, value in inputs.items()}
            self._queues[index].append(_Group(part, rows.index_select(0, places), self._fed))

    def _size(self, index: int) -> int:
        return sum(map(len, self._queues[index]))

    def _take(self, index: int, size: int) -> _Group:
        """The oldest rows of a queue, `size` at most."""
        queue, taken, missing = self._queues[index], [], size
        while queue and missing:
            group = queue.pop(0)
            if len(group) > missing:
                rest = {name: value[missing:] for name, value in group.inputs.items()}
                queue.insert(0, _Group(rest, group.rows[missing:], group.fed))
                first = {name: value[:missing] for name, value in group.inputs.items()}
                group = _Group(first, group.rows[:missing], group.fed)
            taken.append(group)
            missing -= len(group)
        return _Group(_stack([g.inputs for g in taken]), torch.cat([g.rows for g in taken]), self._fed)

    def _run_all(self, indices: list[int]) -> list[Finished]:
        """All rows of some queues, in full batches of neighbouring exits."""
        done = []
        groups: list[_Group] = []
        exits: list[int] = []
        room = self.batch_size
        for index in indices:
            while self._queues[index]:
                group = self._take(index, room)
                groups.append(group)
                exits.append(index)
                room -= len(group)
                if not room:
                    done.append(self._run(groups, exits))
                    groups, exits, room = [], [], self.batch_size
        if groups:
            done.append(self._run(groups, exits))
        return done

    def _run(self, groups: list[_Group], exits: list[int]) -> Finished:
        """One batch of groups, sorted by exit: each leaves at its own."""
        state = self.model.start(**_stack([g.inputs for g in groups]))
        parts = []
        for place, (group, index) in enumerate(zip(groups, exits, strict=True)):
            state, logits, _ = self.model.step(state, index)
            parts.append(Finished(group.rows, logits[: len(group)], torch.full_like(group.rows, index)))
            if place + 1 < len(groups):
                state = state.keep(torch.arange(len(group), logits.shape[0]))
        return Finished.join(parts, self.model.num_labels, self.device)


def _stack(parts: list[Inputs]) -> Inputs:
    """Inputs of several groups as one batch, padded to its longest row and no further."""
    if len(parts) == 1:
        return parts[0]
    width = max(part["input_ids"].shape[1] for part in parts)
    return {
        name: torch.cat([F.pad(part[name], (0, width - part[name].shape[1])) for part in parts]) for name in parts[0]
    }
