"""From a distribution over exits to one exit: the most probable, or the first that covers enough of the mass.

Shapes: B samples, E exits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from mebert.errors import UserError
from mebert.metrics.curve import speedup_layers

Coverage = float | Literal["match"] | None


def check_coverage(coverage: float | None) -> None:
    """Raise a UserError for a coverage outside of (0, 1]."""
    if coverage is not None and not 0.0 < coverage <= 1.0:
        raise UserError(f"coverage must be in (0, 1], or null for the most probable exit; got {coverage}")


def choose_exits(distribution: Tensor, coverage: float | None) -> Tensor:
    """The 0-based exit (B,) of each distribution (B, E), whose rows sum to 1.

    It is the smallest exit whose cumulative mass is at least the coverage, in (0, 1]: the larger, the later. Without a
    coverage it is the most probable exit, of equals the earlier.
    """
    if coverage is None:
        # argmax may return any of equals; the first one is wanted on every device.
        return (distribution == distribution.amax(-1, keepdim=True)).int().argmax(-1)
    reached = distribution.cumsum(-1) >= coverage
    # A sum of 0.9999999 does not reach 1: the remainder belongs to the last exit.
    reached = torch.cat([reached[:, :-1], torch.ones_like(reached[:, :1])], dim=1)
    return reached.int().argmax(-1)


def coverage_for_speedup(distribution: Tensor, exit_layers: Sequence[int], target: float) -> float | None:
    """The largest coverage at which distributions (B, E) reach a speed-up by layers, or None if none does.

    The speed-up falls as the coverage rises, and changes only where the coverage passes a cumulative mass, so a
    bisection over those is exact. The coverage lies between two masses that occur, so that rounding decides nothing.
    """
    if target <= 1.0:
        return 1.0
    masses = torch.unique(distribution.cumsum(-1)[:, :-1].double())  # sorted
    masses = masses[(masses > 0) & (masses < 1)]
    # Below all masses, between each two, and above all.
    candidates = torch.cat([masses[:1] / 2, (masses[1:] + masses[:-1]) / 2, masses.new_tensor([1.0])])
    # Neighbouring masses may have no float32 between them; coverages are compared in float32, so they are here, too.
    candidates = torch.unique(candidates.float())
    too_slow = bisect_left(
        candidates.tolist(),
        True,
        key=lambda coverage: speedup_layers(choose_exits(distribution, coverage), exit_layers) < target,
    )
    return float(candidates[too_slow - 1]) if too_slow else None


def nearest_coverage(distribution: Tensor, exit_layers: Sequence[int], target: float) -> float:
    """`coverage_for_speedup` or, if none is fast enough, the one with the earliest exits; same arguments."""
    found = coverage_for_speedup(distribution, exit_layers, target)
    return found if found is not None else torch.finfo(torch.float32).tiny
