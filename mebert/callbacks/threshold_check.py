"""A word where a threshold that somebody gave decides nothing, or one that is to be reported was never chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_warn

from mebert.at_speed import why_threshold_does_nothing

if TYPE_CHECKING:
    from mebert.curve import ExitRecord
    from mebert.policies import ExitPolicy

__all__ = ["warn_if_useless", "warn_of_missing"]


def warn_if_useless(policy: ExitPolicy, record: ExitRecord | None, where: str) -> None:
    """Warn where the policy's threshold lies below or above all scores that occur, with both ends of their range.

    Args:
        policy: The policy; one without recorded scores (a fixed exit) has no range.
        record: A recorded pass; None where there is none.
        where: What was passed over, such as "validation data".
    """
    scores = None if record is None else record.scores.get(policy.name)
    if scores is not None:
        line = why_threshold_does_nothing(policy.name, policy.threshold, scores, where)
        if line is not None:
            rank_zero_warn(line)


def warn_of_missing(
    operating_points: Mapping[str, Mapping[float, float]], policies: Iterable[str], speedups: Sequence[float]
) -> None:
    """Warn of speed-ups that are asked for, but for which a policy has no threshold.

    Args:
        operating_points: Policy name to speed-up to threshold.
        policies: Their names.
        speedups: By layers.
    """
    for name in policies:
        stored = operating_points.get(name, {})
        missing = [f"{speedup:g}" for speedup in speedups if speedup not in stored]
        if missing:
            rank_zero_warn(
                f"no {name} threshold for a speed-up of {', '.join(missing)}: not attained on validation "
                "data, or not asked for in training (curve.points); stored: "
                f"{', '.join(f'{speedup:g}' for speedup in stored) or 'none'}"
            )
