"""The protocol of all engines: feed a batch, take what finished, flush at the end.

Shapes: B batch, C classes, n rows that finished.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from mebert.choices import EngineName

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy

__all__ = [
    "Engine",
    "EngineName",
    "ExitDecisions",
    "Finished",
    "join_states",
    "keep_state",
    "run_engine",
]


def keep_state(state: Any, rows: Tensor) -> Any:
    """The state of some rows.

    Args:
        state: None, a tensor with the batch first, or a tuple of such.
        rows: Row numbers, (B',) int64.
    """
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    return tuple(keep_state(part, rows) for part in state)


def join_states(states: Sequence[Any]) -> Any:
    """The states of several groups of rows, one after another; all of one shape."""
    first = states[0]
    if first is None or len(states) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(states))
    return tuple(join_states([state[i] for state in states]) for i in range(len(first)))


@dataclass
class ExitDecisions:
    """Where the samples of a batch left, in the batch's order.

    Attributes:
        logits: Logits of the exit taken, (B, C) float32.
        exits: 0-based exit taken, (B,) int64.
    """

    logits: Tensor
    exits: Tensor


@dataclass
class Finished:
    """The rows that an engine is done with, in any order.

    Attributes:
        rows: The caller's numbers, (n,) int64.
        logits: Logits of the exit taken, (n, C) float32.
        exits: 0-based exit taken, (n,) int64.
    """

    rows: Tensor
    logits: Tensor
    exits: Tensor

    def __len__(self) -> int:
        return self.rows.shape[0]

    @classmethod
    def none(cls, num_labels: int, device: torch.device) -> Finished:
        """No row at all."""
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(empty, torch.zeros(0, num_labels, device=device), empty)

    @classmethod
    def join(cls, parts: Sequence[Finished], num_labels: int, device: torch.device) -> Finished:
        """All parts as one."""
        if not parts:
            return cls.none(num_labels, device)
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([p.rows for p in parts]),
            torch.cat([p.logits for p in parts]),
            torch.cat([p.exits for p in parts]),
        )


class Engine(ABC):
    """Carries out a policy on a stream of batches.

    Args:
        model: In evaluation mode.
        policy: Bound to the model.
    """

    name: ClassVar[str]

    def __init__(self, model: MultiExitModel, policy: ExitPolicy) -> None:
        self.model = model
        self.policy = policy

    @abstractmethod
    def feed(self, inputs: dict[str, Tensor], rows: Tensor) -> Finished:
        """Take a batch and return the rows that are done, of this batch or of earlier ones.

        Args:
            inputs: `input_ids`, `attention_mask` and, if the model reads it, `token_type_ids`, each (B, S).
            rows: The caller's numbers of the rows, (B,) int64.
        """

    def flush(self) -> Finished:
        """Finish all rows that wait; the engine can be fed again afterwards."""
        return Finished.none(self.model.num_labels, self.device)

    @property
    def waiting(self) -> int:
        """How many rows were fed and are not done."""
        return 0

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def run_engine(engine: Engine, batches: Iterable[tuple[dict[str, Tensor], Tensor]]) -> Finished:
    """Feed all batches, flush, and put the answers into the order of the row numbers.

    Args:
        engine: Any.
        batches: Inputs and row numbers, as `Engine.feed` takes them.
    """
    parts = [engine.feed(inputs, rows) for inputs, rows in batches]
    parts.append(engine.flush())
    done = Finished.join(parts, engine.model.num_labels, engine.device)
    order = done.rows.argsort()
    return Finished(done.rows[order], done.logits[order], done.exits[order])
