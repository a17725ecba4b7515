"""The two directions in which points differ most: principal components, as pure functions.

Shapes: N points, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Plane", "fit_plane"]


@dataclass(frozen=True)
class Plane:
    """A plane in a space of D dimensions.

    Attributes:
        centre: A point of it, (D,).
        axes: Two directions of length 1 at right angles, (2, D); zeros where the points spread in fewer.
        explained: Share of the points' variance along each, (2,), in [0, 1].
    """

    centre: Tensor
    axes: Tensor
    explained: tuple[float, float]

    def project(self, vectors: Tensor) -> Tensor:
        """Coordinates in the plane, (..., 2) float64, of vectors (..., D)."""
        return (vectors.double() - self.centre) @ self.axes.T

    def turned(self, direction: Tensor) -> Plane:
        """The same plane, its first axis turned round where it points away from a direction (D,)."""
        away = bool(self.axes[0] @ direction.double() < 0)
        return replace(self, axes=torch.stack([-self.axes[0], self.axes[1]])) if away else self


def fit_plane(vectors: Tensor) -> Plane:
    """The plane of the first two principal components (exact, by singular value decomposition in float64).

    Of the two directions of an axis the one is taken in which its largest weight is positive, so that the same points
    give the same picture everywhere.

    Args:
        vectors: (N, D), at least one.

    >>> fit_plane(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])).explained
    (1.0, 0.0)
    """
    points = vectors.double()
    centre = points.mean(0)
    _, values, directions = torch.linalg.svd(points - centre, full_matrices=False)
    variance = values.square()
    total = float(variance.sum())
    axes = torch.zeros(2, points.shape[1], dtype=points.dtype)
    explained = [0.0, 0.0]
    for number in range(min(2, len(values))):
        # A direction without any spread is rounding alone, and would differ from machine to machine.
        if total > 0 and float(variance[number]) > 1e-20 * total:
            axis = directions[number]
            axes[number] = axis * axis[axis.abs().argmax()].sign()
            explained[number] = float(variance[number]) / total
    return Plane(centre, axes, (explained[0], explained[1]))
