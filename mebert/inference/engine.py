"""The protocol of all engines: feed a batch, take what finished, flush at the end.

Shapes: B batch, C classes, n rows that finished.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.inference.decisions import Finished
from mebert.kinds import EngineName

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy

__all__ = ["Engine", "EngineName", "make_engine", "run_engine"]


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


def make_engine(name: EngineName, model: MultiExitModel, policy: ExitPolicy, **settings: Any) -> Engine:
    """The engine with this name.

    Args:
        name: `full`, `shrink`, `refill` or `predicted`.
        model: In evaluation mode.
        policy: Bound to the model.
        settings: What the engine's class takes besides: `batch_size`, `max_waiting` and `max_wait` for `refill` and
            `predicted`, `predictor` for `predicted`.

    Raises:
        UserError: There is no such engine.
    """
    from mebert.inference.predicted import PredictedEngine
    from mebert.inference.refill import RefillEngine
    from mebert.inference.whole_batch import FullEngine, ShrinkEngine

    classes: dict[str, type[Engine]] = {c.name: c for c in (ShrinkEngine, FullEngine, RefillEngine, PredictedEngine)}
    if name not in classes:
        raise UserError(f"engine {name!r} is not known; choose one of: {', '.join(classes)}")
    return classes[name](model, policy, **settings)


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
