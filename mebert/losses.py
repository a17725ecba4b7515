"""Losses over exits, as pure functions.

Shapes: E exits, M exits with prototypes, B batch, C classes. All return a scalar unless stated otherwise. Logits of
several labels a row are (..., C, 2), for each label those of no and yes, and their labels (B, C), 0 or 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

DistillationKind = Literal["none", "vanilla", "layerwise", "both"]

FeatureLossKind = Literal["cosine", "mse"]


def distillation_pairs(kind: DistillationKind, num_students: int) -> list[tuple[int, int]]:
    """Pairs for distillation: (student, teacher), 0-based, where number `num_students` is the deepest teacher.

    `vanilla`: the deepest teaches all others. `layerwise`: a chain, each learns from the next deeper one. `both`: the
    pairs of both, each once (the last student has the same teacher in both). The students are all exits but the last,
    or all exits below an external teacher.

    >>> distillation_pairs("layerwise", 3)
    [(0, 1), (1, 2), (2, 3)]
    >>> distillation_pairs("both", 2)
    [(0, 1), (0, 2), (1, 2)]
    """
    vanilla = [(i, num_students) for i in range(num_students)] if kind in ("vanilla", "both") else []
    chain = [(i, i + 1) for i in range(num_students)] if kind in ("layerwise", "both") else []
    return sorted({*vanilla, *chain})


def logit_distances(students: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch: (M, B, C) twice to (M,).

    T^2 keeps the gradient's size when T changes. For regression (C = 1) the squared difference, without T; of several
    labels (M, B, C, 2) the mean over them. Teachers are taken without gradient. Source: Hinton et al. 2015.

    >>> logit_distances(torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]]), 3.0)
    tensor([0.])
    """
    students, teachers = students.float(), teachers.detach().float()
    if students.shape[-1] == 1:
        return (students - teachers).square().mean((-1, -2))
    student, teacher = (students / temperature).log_softmax(-1), (teachers / temperature).log_softmax(-1)
    kl = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return temperature**2 * kl.flatten(1).mean(1)


def feature_distances(students: Tensor, teachers: Tensor, kind: FeatureLossKind) -> Tensor:
    """How far each student's features are from its teacher's, mean over the batch: (M, B, H) twice to (M,).

    `cosine` is 1 - cos, in [0, 2]: half the squared distance of the normalised features (as in patient distillation,
    Sun et al. 2019). `mse` is the mean squared difference over H. Teachers are taken without gradient.

    >>> feature_distances(torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]]), "cosine")
    tensor([1.])
    """
    students, teachers = students.float(), teachers.detach().float()
    if kind == "cosine":
        return (1.0 - F.cosine_similarity(students, teachers, dim=-1)).mean(-1)
    return (students - teachers).square().mean((-1, -2))


def averaging_matrix(pairs: list[tuple[int, int]], num_students: int) -> Tensor:
    """Maps one value for each (student, teacher), (M,), to the mean over each student's teachers: (num_students, M).

    >>> averaging_matrix([(0, 1), (0, 2), (1, 2)], 2) @ torch.tensor([1.0, 3.0, 5.0])
    tensor([2., 5.])
    """
    matrix = torch.zeros(num_students, len(pairs))
    for pair, (student, _) in enumerate(pairs):
        matrix[student, pair] = 1.0
    return matrix / matrix.sum(1, keepdim=True).clamp_min(1.0)


def uniform_weights(num_exits: int) -> Tensor:
    """Every exit counts the same: weights (E,) that sum to 1."""
    return torch.full((num_exits,), 1.0 / num_exits)


def depth_weights(num_exits: int) -> Tensor:
    """Exit i (from 1) counts i / (1 + 2 + ... + E), as in PABEE: weights (E,) that sum to 1.

    >>> depth_weights(3)
    tensor([0.1667, 0.3333, 0.5000])
    """
    depth = torch.arange(1, num_exits + 1, dtype=torch.float32)
    return depth / depth.sum()


def balanced_weights(labels: Tensor, num_labels: int) -> Tensor:
    """Weights (C,) by which every class counts the same over N samples: w_c = N / (C n_c).

    A class that does not occur weighs as if it occurred once. Labels are (N,) int64.

    >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(labels, minlength=num_labels)
    return len(labels) / (num_labels * counts.clamp_min(1).float())


def per_exit_losses(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The loss of each exit, (E,): cross-entropy, or mean squared error where C = 1.

    Of several labels a row the binary cross-entropy, mean over rows and labels, as of Hugging Face. With weights it is
    the mean over samples of w_y CE, not divided by the sum of the weights, which would differ from process to process.

    Args:
        logits: (E, B, C), or (E, B, C, 2).
        labels: (B,), int64 classes, or float targets where C = 1; or (B, C).
        class_weights: Weight of each class's samples, (C,).
    """
    if logits.shape[-1] == 1:
        return (logits.squeeze(-1).float() - labels.float()).square().mean(1)
    num_exits = logits.shape[0]
    flat = F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten().repeat(num_exits), weight=class_weights, reduction="none"
    )
    return flat.view(num_exits, labels.numel()).mean(1)


exit_losses = per_exit_losses  # its name in mebert 0.1.0


def exit_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Where each exit is wrong, (E, B) float32: 1 or 0; where C = 1, tanh of the absolute error.

    Of several labels a row the share of them that is wrong.

    Args:
        logits: (E, B, C), or (E, B, C, 2).
        labels: (B,), int64 classes, or float targets where C = 1; or (B, C).

    >>> exit_errors(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.tensor([1, 1]))
    tensor([[0., 1.]])
    """
    with torch.no_grad():
        if logits.shape[-1] == 1:
            return (logits.squeeze(-1).float() - labels.float()).abs().tanh()
        wrong = (logits.argmax(-1) != labels).float()
        return wrong.mean(-1) if labels.ndim == 2 else wrong


def dar_hinge(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Distance-aware regulariser, hinge form (DE3-BERT; form RECONSTRUCTED).

    Mean over exits and samples of max(0, d(g, c_y) - min_{k != y} d(g, c_k) + margin): pulls a sample to its own
    class's prototype and pushes it from the nearest other's.

    Distances are (M, B, C), infinite for classes without a prototype, labels (B,) int64, the margin at least 0.

    >>> dar_hinge(torch.tensor([[[1.0, 1.5]]]), torch.tensor([0]), 1.0)
    tensor(0.5000)
    """
    index = labels.view(1, -1, 1).expand(distances.shape[0], -1, 1)
    others = distances.scatter(-1, index, float("inf"))
    return (distances.gather(-1, index).squeeze(-1) - others.amin(-1) + margin).clamp_min(0).mean()


def dar_softmax(distances: Tensor, labels: Tensor) -> Tensor:
    """Distance-aware regulariser, softmax form (DE3-BERT; form RECONSTRUCTED).

    Cross-entropy of the softmax over negative distances, mean over exits and samples, as prototypical networks train.
    Distances are (M, B, C), infinite for classes without a prototype, labels (B,) int64.

    >>> dar_softmax(torch.tensor([[[2.0, 2.0]]]), torch.tensor([0]))
    tensor(0.6931)
    """
    num_exits, _, num_labels = distances.shape
    return F.cross_entropy(-distances.reshape(-1, num_labels), labels.repeat(num_exits))
