"""What each exit sees, in two dimensions: samples, prototypes or class means, and the inspected texts.

Shapes: N samples, T inspected texts, C classes, D dimensions of an exit's space, M exits with prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mebert.commands.inspect.samples import Samples
from mebert.commands.inspect.trace import TextTrace
from mebert.metrics.task import same_labels
from mebert.models.multi_exit import MultiExitModel

MarkKind = Literal["prototypes", "class means", "none"]

FLAT = 8.0  # times the variance along one axis as along the other: nearly three times as long as wide
ENOUGH = 3  # samples that span a plane; with fewer, texts and prototypes help


class Plane(NamedTuple):
    """A plane in D dimensions: a point (D,), two orthogonal unit vectors (2, D), the share of variance along each."""

    centre: Tensor
    axes: Tensor
    explained: tuple[float, float]

    def project(self, vectors: Tensor) -> Tensor:
        """Coordinates in the plane, (..., 2) float64, of vectors (..., D)."""
        return (vectors.double() - self.centre) @ self.axes.T


def fit_plane(vectors: Tensor) -> Plane:
    """The plane of the first two principal components (exact, by singular value decomposition in float64).

    An axis along which the points (N, D) do not spread is zero; the largest weight of an axis is positive, so that the
    picture is the same everywhere (`torch.pca_lowrank` is randomised, and scikit-learn is no dependency).

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


@dataclass
class ExitSpace:
    """The space of one exit (numbered from 1), of `dims` dimensions, and what is in its plane.

    `exit_right` and `nearest_right` are the accuracy, on the samples, of the exit and of the class of the nearest mark
    in all D dimensions; None without samples, and in a regression. Of several labels a row an exit is right with all of
    them, and the mean of each label is that of the rows that have it.
    """

    exit: int
    layer: int
    dims: int
    vectors: Literal["prototypical network", "features"]  # what is projected
    points: Tensor  # samples, (N, 2)
    marks: Tensor  # prototypes or class means, (marks, 2)
    mark_kind: MarkKind
    mark_labels: list[int]  # class of each mark
    texts: Tensor  # inspected texts, (T, 2)
    explained: tuple[float, float]
    exit_right: float | None
    nearest_right: float | None

    @property
    def stretched(self) -> bool:
        """Whether the points lie almost on a line, so that a picture to scale would show no more than that."""
        return self.explained[0] > FLAT * self.explained[1]

    @property
    def axis_titles(self) -> tuple[str, str]:
        """Titles of the two axes of a picture."""
        along, across = (f"component ({share:.0%} of variance" for share in self.explained)
        return f"1st {along})", f"2nd {across}{', stretched' if self.stretched else ''})"

    @property
    def title(self) -> str:
        """An exit in two lines: its place, and how well its space separates the classes."""
        first = f"exit {self.exit} (layer {self.layer}): {sum(self.explained):.0%} of the variance"
        if self.exit_right is None:
            return first
        mark = {"prototypes": "prototype", "class means": "mean"}.get(self.mark_kind)
        nearest = "" if self.nearest_right is None else f", nearest {mark} {self.nearest_right:.0%}"
        return f"{first}\nright: exit {self.exit_right:.0%}{nearest}"


def exit_spaces(model: MultiExitModel, traces: Sequence[TextTrace], samples: Samples | None) -> list[ExitSpace]:
    """Every exit's space, projected to the plane in which its samples (else texts and prototypes) spread most."""
    features = [] if samples is None else [samples.features]
    features += [trace.features for trace in traces]
    return [_space(model, index, vectors, samples) for index, vectors in enumerate(torch.cat(features, 1))]


def _space(model: MultiExitModel, index: int, vectors: Tensor, samples: Samples | None) -> ExitSpace:
    bank = model.prototypes if model.prototypes is not None and index < model.prototypes.num_networks else None
    if bank is not None:
        weight, bias = (value[index].detach().float().cpu() for value in (bank.weight, bank.bias))
        vectors = vectors @ weight.T + bias
    gold = None if samples is None else samples.labels
    own, texts = vectors.tensor_split([0 if gold is None else len(gold)])
    kind: MarkKind = "none"
    marks, labels = own.new_zeros(0, own.shape[1]), list[int]()
    if bank is not None:
        seen, kind = bank.seen.cpu(), "prototypes"
        marks, labels = bank.prototypes[index].detach().float().cpu()[seen], seen.nonzero().flatten().tolist()
    elif gold is not None and model.num_labels > 1:
        members = gold.T == 1 if gold.ndim == 2 else gold == torch.arange(model.num_labels).unsqueeze(1)  # (C, N)
        labels, kind = members.any(1).nonzero().flatten().tolist(), "class means"
        marks = torch.stack([own[members[label]].mean(0) for label in labels] or [*marks])
    plane = fit_plane(own if len(own) >= ENOUGH else torch.cat([vectors, marks]))
    # From the first class to the last, or from small values to large ones, left to right in all panels.
    order = torch.tensor([-1.0] + [0.0] * (len(marks) - 2) + [1.0]) if len(marks) > 1 else gold
    order = None if order is not None and order.ndim == 2 else order
    if order is not None:
        across = plane.project(marks if len(marks) > 1 else own)[:, 0]
        if (order.double() - order.double().mean()) @ across < 0:
            plane.axes[0].neg_()
    exit_right = nearest_right = None
    if samples is not None and gold is not None and model.num_labels > 1:
        exit_right = float(same_labels(samples.predictions[index], gold).double().mean())
        if labels and gold.ndim == 1:
            nearest = torch.tensor(labels)[torch.cdist(own.double(), marks.double()).argmin(1)]
            nearest_right = float((nearest == gold).double().mean())
    return ExitSpace(
        exit=index + 1,
        layer=model.exit_layers[index],
        dims=vectors.shape[1],
        vectors="features" if bank is None else "prototypical network",
        points=plane.project(own),
        marks=plane.project(marks),
        mark_kind=kind,
        mark_labels=labels,
        texts=plane.project(texts),
        explained=plane.explained,
        exit_right=exit_right,
        nearest_right=nearest_right,
    )
