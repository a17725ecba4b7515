"""The settings of a call: whole numbers, and the policy at the threshold that they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mebert.errors import UserError, brief
from mebert.models import MultiExitModel
from mebert.policies import ExitPolicy, policy_by_name
from mebert.policies.stored_thresholds import stored_threshold
from mebert.storage.thresholds import Threshold, as_threshold, check_threshold

Stored = Mapping[str, Mapping[float, Threshold]]
"""Policy name to a number that may be asked for to its threshold."""


def chosen_policy(
    model: MultiExitModel,
    own: ExitPolicy | None,
    operating_points: Stored,
    max_drops: Stored,
    policy: str | ExitPolicy | None,
    threshold: float | Sequence[float] | None,
    speedup: float | None,
    max_drop: float | None,
) -> ExitPolicy:
    """The policy at the threshold that the settings of a call ask for, bound to the model.

    Args:
        model: The model.
        own: Its policy; None: it was saved without one.
        operating_points: What is stored for `speedup`.
        max_drops: What is stored for `max_drop`.
        policy: As in a call.
        threshold: As in a call.
        speedup: As in a call.
        max_drop: As in a call.

    Raises:
        UserError: Settings that are no numbers, not stored, or several at once.
    """
    numbers = {"threshold": threshold, "speedup": speedup, "max_drop": max_drop}
    given = [name for name, value in numbers.items() if value is not None]
    for name in given:
        if not (name == "threshold" and isinstance(threshold, list | tuple)):
            check_number(name, numbers[name])
    check_threshold("threshold", threshold)
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} were both given; give one of them")
    if isinstance(policy, ExitPolicy):
        chosen = policy.bind(model)
    elif policy is None or (own is not None and policy == own.name):
        if own is None:
            known = ", ".join(operating_points) or "entropy"
            raise UserError(f"this model was saved without a policy; give policy (for example {known})")
        chosen = own
    else:
        chosen = policy_by_name(policy)().bind(model)
        if not given:
            raise UserError(f"policy {policy!r} is not the model's own: give a threshold or a speedup for it")
    if threshold is not None:
        return chosen.with_threshold(as_threshold(threshold)).bind(model)
    stored = stored_threshold(chosen.name, operating_points, max_drops, speedup, max_drop)
    return chosen if stored is None else chosen.with_threshold(stored).bind(model)


def whole_number(name: str, value: Any) -> int:
    """The value as an integer, also of 7.0 or NumPy's; a UserError for what is none."""
    with suppress(TypeError, ValueError, OverflowError):
        if not isinstance(value, str | bytes) and int(value) == value:
            return int(value)
    raise UserError(f"{name} must be a whole number, got {brief(value)}")


def check_number(name: str, value: Any) -> None:
    """Raise a UserError for a value that is not a number."""
    with suppress(TypeError, ValueError, OverflowError):
        if not isinstance(value, str | bytes):
            float(value)
            return
    raise UserError(f"{name} must be a number, got {brief(value)}")
