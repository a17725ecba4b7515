"""Thresholds that validation data gave for speed-ups, as stored with a checkpoint or a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mebert.errors import UserError

__all__ = ["read_operating_points", "stored_threshold"]

OperatingPoints = Mapping[str, Mapping[float, float]]
"""Policy name to speed-up by layers to threshold."""


def stored_threshold(
    policy: str,
    operating_points: OperatingPoints,
    speedup: float,
    where: str = "in this checkpoint",
    instead: str = "give predictions.threshold",
    what: str = "speed-up",
) -> float:
    """The threshold that validation data gave for a speed-up by layers (or for a most allowed drop).

    Args:
        policy: Name of the policy.
        operating_points: Policy name to speed-up to threshold, as in the checkpoint.
        speedup: One of those stored.
        where: Where they are stored, in words, for the error.
        instead: What to do instead, likewise.
        what: The number, likewise.

    Raises:
        UserError: It is not stored; the text lists those that are.
    """
    stored = operating_points.get(policy, {})
    if speedup not in stored:
        known = ", ".join(f"{target:g}" for target in stored) or "none"
        raise UserError(
            f"no {policy} threshold for a {what} of {speedup:g} {where} "
            f"(stored: {known}); choose one of these, or {instead}"
        )
    return min(max(stored[speedup], 0.0), 1.0)


def read_operating_points(settings: Mapping[str, object]) -> dict[str, dict[float, float]]:
    """The operating points in the settings of a model folder (`exits.json`), whose keys JSON has made text."""
    return read_thresholds(settings, "operating_points")


def read_thresholds(settings: Mapping[str, object], section: str) -> dict[str, dict[float, float]]:
    """Policy name to number to threshold, from a section of `exits.json`.

    Raises:
        UserError: It holds something else.
    """
    stored: Any = settings.get(section) or {}
    try:
        return {name: {float(s): float(t) for s, t in points.items()} for name, points in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"exits.json: {section} holds no thresholds ({error}); calibrate the model anew") from error
