"""The engine with a name, and with the settings that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mebert.choices import EngineName
from mebert.errors import UserError
from mebert.exit_predictor import ExitPredictor, choose_predictor
from mebert.inference.engine import Engine
from mebert.inference.predicted import PredictedEngine
from mebert.inference.refill import RefillEngine
from mebert.inference.whole_batch import FullEngine, ShrinkEngine

if TYPE_CHECKING:
    from mebert.models.multi_exit import MultiExitModel
    from mebert.policies import ExitPolicy


def make_engine(
    name: EngineName,
    model: MultiExitModel,
    policy: ExitPolicy,
    *,
    batch_size: int = 32,
    max_waiting: int | None = None,
    max_wait: int | None = None,
    predictors: Sequence[ExitPredictor] = (),
) -> Engine:
    """The engine with this name.

    Args:
        name: `full`, `shrink`, `refill` or `predicted`.
        model: In evaluation mode.
        policy: Bound to the model.
        batch_size: Rows of a full batch, for `refill` and `predicted`, which wait for one.
        max_waiting: Most rows that wait after a feed, for the same engines.
        max_wait: Most feeds that a row waits, for the same engines.
        predictors: For `predicted`, which runs by the one that was fitted to the policy.

    Raises:
        UserError: No such engine, a setting out of range, or no predictor for the policy.
    """
    if name in ("full", "shrink"):
        return (FullEngine if name == "full" else ShrinkEngine)(model, policy)
    if name == "refill":
        return RefillEngine(model, policy, batch_size, max_waiting, max_wait)
    if name == "predicted":
        if not any(policy.may_leave(index) for index in range(model.num_exits - 1)):
            return ShrinkEngine(model, policy)  # at full depth there is nothing to predict
        predictor = choose_predictor(predictors, policy).to(next(model.parameters()).device)
        return PredictedEngine(model, policy, predictor, batch_size, max_waiting, max_wait)
    raise UserError(f"engine {name!r} is not known; choose one of: shrink, full, refill, predicted")
