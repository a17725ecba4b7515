"""The interface of all engines: feed a batch, get the rows that finished, flush at the end.

Shapes: B batch, C classes, n rows that finished.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel


class ExitRule(Protocol):
    """What an engine asks of an exit policy: `ExitPolicy` has the meaning of each."""

    def start(self, attention_mask: Tensor) -> Any: ...

    def may_leave(self, exit_index: int) -> bool: ...

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, Any]: ...

    def answer(self, exit_index: int, logits: Tensor, state: Any = None) -> Tensor: ...


def select_state(state: Any, rows: Tensor) -> Any:
    """The part of a policy's state (None, a tensor with the batch first, or a tuple of such) for some rows (n,)."""
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.index_select(0, rows)
    return tuple(select_state(part, rows) for part in state)


def join_states(states: Sequence[Any]) -> Any:
    """The concatenation of policy states of several groups of rows; all have the same structure."""
    first = states[0]
    if first is None or len(states) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(list(states))
    return tuple(join_states([state[i] for state in states]) for i in range(len(first)))


@dataclass
class ExitDecisions:
    """Logits (B, C) float32 and numbers (B,) int64, from 0, of the exits that a batch's samples took, in its order."""

    logits: Tensor
    exits: Tensor


@dataclass
class Finished:
    """Rows with their predictions, in any order.

    Attributes:
        rows: The caller's row numbers, (n,) int64.
        logits: Logits of the exit taken, (n, C) float32; of a multi-label model (n, C, 2).
        exits: 0-based exit taken, (n,) int64.
    """

    rows: Tensor
    logits: Tensor
    exits: Tensor

    def __len__(self) -> int:
        return self.rows.shape[0]

    @classmethod
    def empty(cls, logits_shape: Sequence[int], device: torch.device) -> Finished:
        """No rows, of logits of this shape each."""
        rows = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(rows, torch.zeros(0, *logits_shape, device=device), rows)


class Engine(ABC):
    """Runs a model on a stream of batches; its policy decides when samples leave.

    Args:
        model: In evaluation mode.
        policy: Bound to the model.
    """

    def __init__(self, model: MultiExitModel, policy: ExitRule) -> None:
        self.model = model
        self.policy = policy

    @abstractmethod
    def feed(self, inputs: dict[str, Tensor], rows: Tensor) -> Finished:
        """Take a batch; return the rows that finished, of this batch or of earlier ones.

        Args:
            inputs: `input_ids`, `attention_mask` and, if the model reads it, `token_type_ids`, each (B, S) or, of
                texts in windows, (B, W, S).
            rows: The caller's row numbers, (B,) int64.
        """

    def flush(self) -> Finished:
        """Finish all waiting rows; the engine can be fed again afterwards."""
        return self.joined([])

    def joined(self, parts: Sequence[Finished]) -> Finished:
        """All parts as one, which is empty without any."""
        if not parts:
            return Finished.empty(self.model.logits_shape, self.device)
        columns = [(part.rows, part.logits, part.exits) for part in parts]
        return parts[0] if len(parts) == 1 else Finished(*map(torch.cat, zip(*columns, strict=True)))

    @property
    def waiting(self) -> int:
        """Number of rows that were fed and have not finished."""
        return 0

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device


def run_engine(engine: Engine, batches: Iterable[tuple[dict[str, Tensor], Tensor]]) -> Finished:
    """Feed all batches (inputs and row numbers, as `Engine.feed` takes them), flush, and sort by row number."""
    done = engine.joined([*(engine.feed(inputs, rows) for inputs, rows in batches), engine.flush()])
    order = done.rows.argsort()
    return Finished(done.rows[order], done.logits[order], done.exits[order])
