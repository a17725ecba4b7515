"""Distillation between the exits of one model, as pure functions.

Shapes: E exits, M pairs of a student and a teacher, B batch, C classes, H hidden. The teacher's side carries no
gradient: exits learn from deeper ones, never the other way round.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "DistillationKind",
    "FeatureLossKind",
    "averaging_matrix",
    "distillation_pairs",
    "feature_distances",
    "logit_distances",
]

DistillationKind = Literal["none", "vanilla", "layerwise", "both"]
FeatureLossKind = Literal["cosine", "mse"]


def distillation_pairs(kind: DistillationKind, num_students: int) -> list[tuple[int, int]]:
    """Who learns from whom: (student, teacher), 0-based, where number `num_students` is the deepest teacher.

    `vanilla`: the deepest teaches all others. `layerwise`: a chain, each learns from the next deeper one. `both`: the
    pairs of both, each once (the last student has the same teacher in both).

    Args:
        kind: Which pairs; `none` has no pairs.
        num_students: The positions that learn: all exits but the last, or all exits below an external teacher.

    >>> distillation_pairs("layerwise", 3)
    [(0, 1), (1, 2), (2, 3)]
    >>> distillation_pairs("both", 2)
    [(0, 1), (0, 2), (1, 2)]
    """
    vanilla = [(i, num_students) for i in range(num_students)] if kind in ("vanilla", "both") else []
    chain = [(i, i + 1) for i in range(num_students)] if kind in ("layerwise", "both") else []
    return sorted({*vanilla, *chain})


def logit_distances(students: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch, (M,) (Hinton et al. 2015).

    T^2 keeps the gradient's size when T changes. For regression (C = 1) the squared difference, without T.

    Args:
        students: (M, B, C).
        teachers: (M, B, C); taken without gradient.
        temperature: T, above 0.

    >>> logit_distances(torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]]), 3.0)
    tensor([0.])
    """
    students, teachers = students.float(), teachers.detach().float()
    if students.shape[-1] == 1:
        return (students - teachers).square().mean((-1, -2))
    student, teacher = (students / temperature).log_softmax(-1), (teachers / temperature).log_softmax(-1)
    kl = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return temperature**2 * kl.mean(-1)


def feature_distances(students: Tensor, teachers: Tensor, kind: FeatureLossKind) -> Tensor:
    """How far each student's features are from its teacher's, mean over the batch, (M,).

    `cosine` is 1 - cos, in [0, 2]: half the squared distance of the normalised features (as in patient distillation,
    Sun et al. 2019). `mse` is the mean squared difference over the H features as they are.

    Args:
        students: (M, B, H).
        teachers: (M, B, H); taken without gradient.
        kind: Which distance.

    >>> feature_distances(torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]]), "cosine")
    tensor([1.])
    """
    students, teachers = students.float(), teachers.detach().float()
    if kind == "cosine":
        return (1.0 - F.cosine_similarity(students, teachers, dim=-1)).mean(-1)
    return (students - teachers).square().mean((-1, -2))


def averaging_matrix(pairs: list[tuple[int, int]], num_students: int) -> Tensor:
    """Maps one value a pair (M,) to the mean over each student's teachers: (num_students, M), made once.

    Args:
        pairs: (student, teacher) of each value.
        num_students: How many students there are.

    >>> averaging_matrix([(0, 1), (0, 2), (1, 2)], 2) @ torch.tensor([1.0, 3.0, 5.0])
    tensor([2., 5.])
    """
    matrix = torch.zeros(num_students, len(pairs))
    for pair, (student, _) in enumerate(pairs):
        matrix[student, pair] = 1.0
    return matrix / matrix.sum(1, keepdim=True).clamp_min(1.0)
