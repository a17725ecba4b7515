"""ELUE's score: how far a method lies above a reference curve of performance against FLOPs.

Shapes: n points of the method, m of the reference. ElasticBERT and ELUE: Liu et al., NAACL 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Points = Sequence[tuple[float, float]]
"""(cost, performance) pairs in any order; costs in one unit, such as GFLOPs a sample."""


def elue_score(points: Points, reference: Points) -> float:
    """(1/n) sum_i [p_i - p_ref(f_i)] over the method's points (f_i, p_i), in the unit of the performance.

    EXACT, with p_ref interpolated between the reference's points. That it is linear is RECONSTRUCTED, and so is the
    value beyond the ends: that of the nearest point. Both need a point at least (ValueError).

    >>> elue_score([(1.5, 0.9)], [(1.0, 0.8), (2.0, 0.9)])
    0.05
    """
    if not points or not reference:
        raise ValueError("ELUE's score needs at least one point of the method and of the reference")
    costs = [cost for cost, _ in points]
    there = placed_at(reference, costs)
    return round(float(np.mean([p - r for (_, p), (_, r) in zip(points, there, strict=True)])), 12)


def placed_at(curve: Points, costs: Sequence[float]) -> list[tuple[float, float]]:
    """A curve interpolated linearly at other costs; beyond its ends the nearest point's performance.

    ELUE scores the few points that were submitted. The score of a whole curve would depend on the choice of its points,
    so all policies are scored at the costs of the reference's points: RECONSTRUCTED.
    """
    at: dict[float, list[float]] = {}
    for cost, performance in sorted(curve):
        at.setdefault(cost, []).append(performance)
    values = np.interp(costs, list(at), [float(np.mean(same)) for same in at.values()])
    return [(float(cost), float(value)) for cost, value in zip(costs, values, strict=True)]
