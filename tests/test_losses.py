import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from mebert.losses import (
    averaging_matrix,
    balanced_weights,
    dar_hinge,
    dar_softmax,
    depth_weights,
    distillation_pairs,
    feature_distances,
    logit_distances,
    per_exit_losses,
    uniform_weights,
)


@given(st.integers(1, 40))
def test_weights_sum_to_one(num_exits):
    for weights in (uniform_weights(num_exits), depth_weights(num_exits)):
        assert float(weights.sum()) == pytest.approx(1.0)
    assert (depth_weights(num_exits).diff() > 0).all()


def test_class_weights():
    """The mean of w_y CE: shares of a batch, weighed by their sizes, add up to the whole batch."""
    logits, labels, weights = torch.randn(4, 7, 3), torch.randint(0, 3, (7,)), torch.tensor([0.5, 1.0, 4.0])
    each = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in logits]) * weights[labels]
    whole = per_exit_losses(logits, labels, weights)
    torch.testing.assert_close(whole, each.mean(1))
    first, rest = (
        per_exit_losses(logits[:, :3], labels[:3], weights),
        per_exit_losses(logits[:, 3:], labels[3:], weights),
    )
    torch.testing.assert_close((3 * first + 4 * rest) / 7, whole)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
def test_balanced_weights_equal_scikit_learn(labels):
    present = np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=labels) * len(present) / 4  # theirs: C present ones
    got = balanced_weights(torch.tensor(labels), 4)
    assert got[present].tolist() == pytest.approx(expected.tolist())
    assert got.isfinite().all()
    assert (got > 0).all()


def test_one_label_is_regression():
    logits, targets = torch.randn(4, 7, 1), torch.rand(7) * 5
    expected = torch.stack([F.mse_loss(z.squeeze(-1), targets) for z in logits])
    torch.testing.assert_close(per_exit_losses(logits, targets), expected)


def test_hinge_by_hand():
    distances = torch.tensor([[[1.0, 3.0, 2.5], [4.0, 1.0, 9.0]]])  # one exit, two samples
    # sample 0, class 0: 1 - 2.5 + 1 = -0.5 -> 0; sample 1, class 2: 9 - 1 + 1 = 9
    assert float(dar_hinge(distances, torch.tensor([0, 2]), margin=1.0)) == pytest.approx(4.5)
    assert float(dar_hinge(distances, torch.tensor([0, 2]), margin=2.0)) == pytest.approx((0.5 + 10) / 2)


def test_softmax_form_is_a_cross_entropy_over_negative_distances():
    distances, labels = torch.rand(3, 5, 4) * 3, torch.randint(0, 4, (5,))
    expected = torch.stack([F.cross_entropy(-d, labels) for d in distances]).mean()
    torch.testing.assert_close(dar_softmax(distances, labels), expected)


@pytest.mark.parametrize("loss", [lambda d, y: dar_hinge(d, y, 1.0), dar_softmax])
def test_gradient_pulls_to_the_own_prototype_and_pushes_from_others(loss):
    distances = torch.tensor([[[2.0, 1.5, 4.0]]], requires_grad=True)
    loss(distances, torch.tensor([0])).backward()
    assert distances.grad[0, 0, 0] > 0  # descending shortens the own distance
    assert distances.grad[0, 0, 1] < 0  # and lengthens the nearest other


@pytest.mark.parametrize("loss", [lambda d, y: dar_hinge(d, y, 1.0), dar_softmax])
def test_classes_without_prototype_give_finite_loss_and_gradient(loss):
    distances = torch.tensor([[[2.0, float("inf"), float("inf")]]], requires_grad=True)
    value = loss(distances, torch.tensor([0]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(distances.grad).all()


# ---- distillation: against numbers worked out by hand and against loops ----------------------------------------------


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


@given(st.sampled_from(["vanilla", "layerwise", "both"]), st.integers(1, 8))
def test_every_student_gets_the_mean_over_its_teachers(kind, students):
    pairs = distillation_pairs(kind, students)
    values = torch.rand(len(pairs))
    means = averaging_matrix(pairs, students) @ values
    for student in range(students):
        own = [float(value) for value, (s, _) in zip(values, pairs, strict=True) if s == student]
        assert float(means[student]) == pytest.approx(sum(own) / len(own), rel=1e-5)
        assert all(teacher > student for s, teacher in pairs if s == student)
