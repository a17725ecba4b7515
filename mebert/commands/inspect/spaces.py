"""What each exit sees, in two dimensions: samples, prototypes or class means, and the inspected texts.

Shapes: N samples, T inspected texts, C classes, D dimensions of an exit's space, M exits with prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mebert.commands.inspect.samples import Samples
from mebert.commands.inspect.trace import TextTrace
from mebert.commands.inspect.walk import Walk
from mebert.models.multi_exit import MultiExitModel

__all__ = ["ExitSpace", "MarkKind", "Plane", "exit_spaces", "fit_plane"]


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


MarkKind = Literal["prototypes", "class means", "none"]

FLAT = 8.0  # times the variance along one axis as along the other: nearly three times as long as wide

ENOUGH = 3  # samples that span a plane; with fewer, texts and prototypes help


@dataclass
class ExitSpace:
    """One exit's panel.

    Attributes:
        exit: Number of the exit, from 1.
        layer: Its layer.
        dims: D.
        vectors: What is projected: `prototypical network` (the outputs that its prototypes are means of) or `features`
            (what the exit pools).
        points: Samples in the plane, (N, 2).
        marks: Prototypes or class means in the plane, (marks, 2).
        mark_kind: Which of them.
        mark_labels: Class of each mark, (marks,).
        texts: Inspected texts in the plane, (T, 2).
        explained: Share of the variance along either axis.
        exit_right: Share of samples whose label the exit says; None without samples, and in a regression.
        nearest_right: Share of samples whose nearest mark, in all D dimensions, is their own class's; likewise.
    """

    exit: int
    layer: int
    dims: int
    vectors: Literal["prototypical network", "features"]
    points: Tensor
    marks: Tensor
    mark_kind: MarkKind
    mark_labels: list[int]
    texts: Tensor
    explained: tuple[float, float]
    exit_right: float | None
    nearest_right: float | None

    @property
    def stretched(self) -> bool:
        """Whether the points lie almost on a line, so that a picture to scale would show no more than that."""
        return self.explained[0] > FLAT * self.explained[1]

    @property
    def axis_titles(self) -> tuple[str, str]:
        """What stands at the two axes of a picture."""
        along, across = (f"component ({share:.0%} of variance" for share in self.explained)
        return f"1st {along})", f"2nd {across}{', stretched' if self.stretched else ''})"


def exit_spaces(model: MultiExitModel, traces: Sequence[TextTrace], samples: Samples | None) -> list[ExitSpace]:
    """Every exit's space, projected to the plane in which its samples spread most.

    Args:
        model: As it was trained; its prototypes are shown, where it has some.
        traces: The inspected texts.
        samples: Rows to see them beside; None: the texts alone (and prototypes) span the plane.
    """
    walks = [] if samples is None else [samples.walk]
    walks += [trace.walk for trace in traces]
    return [_space(model, index, walks, samples) for index in range(model.num_exits)]


def _space(model: MultiExitModel, index: int, walks: Sequence[Walk], samples: Samples | None) -> ExitSpace:
    bank = model.prototypes
    vectors = torch.cat([_vectors(model, index, walk.features[index]) for walk in walks])
    count = 0 if samples is None else len(samples)
    own, texts = vectors[:count], vectors[count:]
    of_network = bank is not None and index < bank.num_networks
    marks, labels, kind = _marks(model, index, own, None if samples is None else samples.labels)
    plane = fit_plane(own if count >= ENOUGH else torch.cat([vectors, marks]))
    # From the first class to the last, or from small values to large ones, left to right in all panels.
    if len(marks) > 1:
        plane = plane.turned(marks[-1] - marks[0])
    elif samples is not None:
        weights = samples.labels.double() - samples.labels.double().mean()
        plane = plane.turned(weights @ own.double())
    exit_right = nearest_right = None
    if samples is not None and model.num_labels > 1:
        exit_right = _share(samples.walk.answers[index] == samples.labels)
        if len(labels):
            nearest = torch.tensor(labels)[torch.cdist(own.double(), marks.double()).argmin(1)]
            nearest_right = _share(nearest == samples.labels)
    return ExitSpace(
        exit=index + 1,
        layer=model.exit_layers[index],
        dims=vectors.shape[1],
        vectors="prototypical network" if of_network else "features",
        points=plane.project(own),
        marks=plane.project(marks),
        mark_kind=kind,
        mark_labels=labels,
        texts=plane.project(texts),
        explained=plane.explained,
        exit_right=exit_right,
        nearest_right=nearest_right,
    )


def _vectors(model: MultiExitModel, index: int, features: Tensor) -> Tensor:
    """Where features (n, F) of an exit lie: in its prototypes' space (n, D), else as they are."""
    bank = model.prototypes
    if bank is None or index >= bank.num_networks:
        return features
    weight, bias = (value[index].detach().float().cpu() for value in (bank.weight, bank.bias))
    return features @ weight.T + bias


def _marks(model: MultiExitModel, index: int, own: Tensor, gold: Tensor | None) -> tuple[Tensor, list[int], MarkKind]:
    """Prototypes, else the class means of the samples, with their classes."""
    bank = model.prototypes
    if bank is not None and index < bank.num_networks:
        seen = bank.seen.cpu()
        return bank.prototypes[index].detach().float().cpu()[seen], seen.nonzero().flatten().tolist(), "prototypes"
    if gold is None or model.num_labels == 1:
        return own.new_zeros(0, own.shape[1]), [], "none"
    there = [label for label in range(model.num_labels) if bool((gold == label).any())]
    return torch.stack([own[gold == label].mean(0) for label in there]), there, "class means"


def _share(right: Tensor) -> float:
    return float(right.double().mean())
