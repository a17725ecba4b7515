"""Checks and warnings on thresholds: inert ones, missing ones, and checkpoints that monitor a missing curve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mebert.errors import UserError
from mebert.metrics.at_speed import describe_inert_threshold
from mebert.policies import FixedExit
from mebert.policies.stored_thresholds import Thresholds
from mebert.runtime.messages import rank_zero_warn

if TYPE_CHECKING:
    import lightning as L

    from mebert.metrics.curve import ExitRecord
    from mebert.modules import MultiExitModule
    from mebert.policies import ExitPolicy


def check_monitors(trainer: L.Trainer, module: MultiExitModule) -> None:
    """Raise a UserError where a checkpoint monitors the curve of a policy whose scores are not recorded."""
    known = [name for name in module.score_policies() if name != FixedExit.name]
    for monitor in (getattr(one, "monitor", None) for one in trainer.checkpoint_callbacks):
        name = module.policy.name if monitor == "val/auc" else str(monitor).removeprefix("val/auc_")
        if str(monitor).startswith("val/auc") and name not in known:
            raise UserError(
                f"checkpoint.monitor {monitor}: no curve of the policy {name!r} is drawn after each epoch; choose "
                f"val/auc_ and one of {', '.join(known)}, or give the module that policy (model.policy)"
            )


def warn_if_useless(policy: ExitPolicy, record: ExitRecord | None, where: str) -> None:
    """Warn where the policy's threshold lies below or above all of its scores that were recorded, if any."""
    scores = None if record is None else record.scores.get(policy.name)
    if scores is not None and (line := describe_inert_threshold(policy.name, policy.threshold, scores, where)):
        rank_zero_warn(line)


def warn_of_missing(operating_points: Thresholds, policies: Iterable[str], speedups: Sequence[float]) -> None:
    """Warn of requested speed-ups for which a policy has no stored threshold."""
    for name in policies:
        stored = operating_points.get(name, {})
        missing = [f"{speedup:g}" for speedup in speedups if speedup not in stored]
        if missing:
            rank_zero_warn(
                f"no {name} threshold for a speed-up of {', '.join(missing)}: not attained on validation "
                "data, or not asked for in training (curve.points); stored: "
                f"{', '.join(f'{speedup:g}' for speedup in stored) or 'none'}"
            )
