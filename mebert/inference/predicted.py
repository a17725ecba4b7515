"""The engine `predicted`: the exit is predicted before the layers run, and no exit is tested (GEEP).

Source: Li et al., Frontiers of Computer Science 18(3) 183308. Shapes: B batch, C classes, S tokens, n rows of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from typing_extensions import override

from mebert.inference.engine import Finished
from mebert.inference.waiting import WaitingEngine
from mebert.models.windows import stacked_inputs, texts_of

if TYPE_CHECKING:
    from mebert.exit_predictor import ExitPredictor
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy

Inputs = dict[str, Tensor]


@dataclass
class _Group:
    """Rows with one predicted exit that were fed together."""

    inputs: Inputs
    rows: Tensor  # (n,)
    fed: int

    def split(self, size: int) -> tuple[_Group, _Group]:
        """The first `size` rows, and the rest."""
        first = {name: value[:size] for name, value in self.inputs.items()}
        rest = {name: value[size:] for name, value in self.inputs.items()}
        return _Group(first, self.rows[:size], self.fed), _Group(rest, self.rows[size:], self.fed)


class PredictedEngine(WaitingEngine[_Group]):
    """Rows are sorted by predicted exit, and a full batch runs straight to its exit and applies that one head.

    `flush` runs what is left in batches of mixed exits, whose rows leave at their predicted exits. There is no exit
    test; an accelerator is waited for once per fed batch, to sort it, and once per batch that runs, for its lengths,
    before its layers.

    The exits are those of `predictor.predict`; the policy is not used. Other arguments as `WaitingEngine`;
    `max_waiting` is 64 x `batch_size` by default, because only token ids wait.
    """

    def __init__(
        self,
        model: MultiExitModel,
        policy: ExitPolicy,
        predictor: ExitPredictor,
        batch_size: int = 32,
        max_waiting: int | None = None,
        max_wait: int | None = None,
    ) -> None:
        self.predictor = predictor
        most = 64 * batch_size if max_waiting is None else max_waiting
        super().__init__(model, policy, model.num_exits, batch_size, most, max_wait)

    @override
    @torch.inference_mode()
    def feed(self, inputs: Inputs, rows: Tensor) -> Finished:
        self._fed += 1
        done: list[Finished] = []
        if rows.shape[0]:
            self._sort(inputs, rows.to(inputs["input_ids"].device))
        for index in reversed(range(len(self._queues))):
            while self._size(index) >= self.batch_size:
                done.append(self._run([_join(self._take(index, self.batch_size))], [index]))
        done += self._run_all([index for index in range(len(self._queues)) if self._is_late(index)])
        while self.waiting > self.max_waiting:
            done += self._run_all([self._fullest()])
        return self.joined(done)

    @override
    @torch.inference_mode()
    def flush(self) -> Finished:
        return self.joined(self._run_all(range(len(self._queues))))

    def _sort(self, inputs: Inputs, rows: Tensor) -> None:
        known = self.predictor.predict(*texts_of(inputs)).cpu()  # the one synchronisation
        for index in known.unique().tolist():
            places = (known == index).nonzero().squeeze(-1).to(rows.device)
            part = {name: value.index_select(0, places) for name, value in inputs.items()}
            self._queues[index].append(_Group(part, rows.index_select(0, places), self._fed))

    def _run_all(self, indices: Sequence[int]) -> list[Finished]:
        """All rows of some queues, in full batches of neighbouring exits."""
        done = []
        groups: list[_Group] = []
        exits: list[int] = []
        room = self.batch_size
        for index in indices:
            while self._queues[index]:
                groups.append(_join(self._take(index, room)))
                exits.append(index)
                room -= groups[-1].rows.shape[0]
                if not room:
                    done.append(self._run(groups, exits))
                    groups, exits, room = [], [], self.batch_size
        return [*done, self._run(groups, exits)] if groups else done

    def _run(self, groups: list[_Group], exits: list[int]) -> Finished:
        """One batch of groups, sorted by exit: each leaves at its own."""
        state = self.model.start(**stacked_inputs([g.inputs for g in groups]))
        parts = []
        for place, (group, index) in enumerate(zip(groups, exits, strict=True)):
            state, logits, _ = self.model.step(state, index)
            size = group.rows.shape[0]
            parts.append(Finished(group.rows, logits[:size], torch.full_like(group.rows, index)))
            if place + 1 < len(groups):
                state = self.model.keep(state, torch.arange(size, logits.shape[0]))
        return self.joined(parts)


def _join(groups: list[_Group]) -> _Group:
    return _Group(stacked_inputs([g.inputs for g in groups]), torch.cat([g.rows for g in groups]), groups[0].fed)
