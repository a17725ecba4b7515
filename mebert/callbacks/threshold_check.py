"""A word where a threshold that somebody gave decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_warn

from mebert.at_speed import why_threshold_does_nothing

if TYPE_CHECKING:
    from mebert.curve import ExitRecord
    from mebert.policies import ExitPolicy

__all__ = ["warn_if_useless"]


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
