"""Distillation losses against numbers worked out by hand and against loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mebert.losses import averaging_matrix, distillation_pairs, feature_distances, logit_distances


def test_who_teaches_whom():
    assert distillation_pairs("none", 3) == []
    assert distillation_pairs("vanilla", 3) == [(0, 3), (1, 3), (2, 3)]
    assert distillation_pairs("layerwise", 3) == [(0, 1), (1, 2), (2, 3)]
    assert distillation_pairs("both", 3) == [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_kl_by_hand():
    """Teacher (3/4, 1/4) and student (1/2, 1/2) at T = 2: logits are twice the log-odds."""
    teacher = torch.tensor([[[2 * math.log(3.0), 0.0]]])
    student = torch.tensor([[[5.0, 5.0]]])
    by_hand = 4.0 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert float(logit_distances(student, teacher, 2.0)) == pytest.approx(by_hand, rel=1e-6)


def test_kl_is_of_the_student_given_the_teacher_not_the_reverse():
    teacher, student = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    p, q = teacher.softmax(-1), student.softmax(-1)
    assert float(logit_distances(student, teacher, 1.0)) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)


def test_mean_over_the_batch_for_each_pair():
    torch.manual_seed(0)
    students, teachers = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    found = logit_distances(students, teachers, 1.5)
    for pair in range(3):
        total = 0.0
        for row in range(5):
            p, q = (teachers[pair, row] / 1.5).softmax(0), (students[pair, row] / 1.5).softmax(0)
            total += float((p * (p.log() - q.log())).sum())
        assert float(found[pair]) == pytest.approx(1.5**2 * total / 5, rel=1e-4)


def test_regression_compares_values():
    students, teachers = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [2.0]]])
    assert logit_distances(students, teachers, 7.0).tolist() == [2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_stay_finite(dtype):
    students = torch.tensor([[[1e4, -1e4], [0.0, 0.0]]], dtype=dtype, requires_grad=True)
    teachers = torch.tensor([[[-1e4, 1e4], [1e4, -1e4]]], dtype=dtype)
    loss = logit_distances(students, teachers, 1.0).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(students.grad).all()


def test_feature_distances_by_hand():
    student, teacher = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[4.0, 3.0]]])
    assert float(feature_distances(student, teacher, "cosine")) == pytest.approx(1 - 24 / 25)
    assert float(feature_distances(student, teacher, "mse")) == pytest.approx(1.0)
    normalised = (student / 5 - teacher / 5).square().sum()
    assert float(feature_distances(student, teacher, "cosine")) == pytest.approx(float(normalised) / 2)


@pytest.mark.parametrize("distance", ["logits", "cosine", "mse"])
def test_no_gradient_reaches_the_teacher(distance):
    student, teacher = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    loss = (
        logit_distances(student, teacher, 2.0)
        if distance == "logits"
        else feature_distances(student, teacher, distance)
    )
    loss.sum().backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@given(st.sampled_from(["vanilla", "layerwise", "both"]), st.integers(1, 8))
def test_every_student_gets_the_mean_over_its_teachers(kind, students):
    pairs = distillation_pairs(kind, students)
    values = torch.rand(len(pairs))
    means = averaging_matrix(pairs, students) @ values
    for student in range(students):
        own = [float(value) for value, (s, _) in zip(values, pairs, strict=True) if s == student]
        assert float(means[student]) == pytest.approx(sum(own) / len(own), rel=1e-5)
        assert all(teacher > student for s, teacher in pairs if s == student)
