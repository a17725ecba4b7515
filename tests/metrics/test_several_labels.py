"""Metrics of several labels a row against scikit-learn's, and losses against PyTorch's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, f1_score, multilabel_confusion_matrix
from torch.nn import functional as F

from mebert.curriculum.measures import ExitErrorRate, Loss
from mebert.errors import UserError
from mebert.losses import exit_errors, logit_distances, per_exit_losses
from mebert.metrics.collected import make_metric, update_metric
from mebert.metrics.per_class import class_report
from mebert.metrics.task import check_metric, metric_value
from mebert.models.exit_scorer import fit_exit_scorer
from mebert.models.heads import per_label
from mebert.policies import Entropy, Margin, MaxProbability, Patience
from mebert.policies.temperature import expected_calibration_error, fit_temperatures

SETS = st.tuples(st.integers(1, 12), st.integers(2, 5)).flatmap(
    lambda shape: st.tuples(*[arrays(np.int64, shape, elements=st.integers(0, 1)) for _ in range(2)])
)


@settings(max_examples=25, deadline=None)
@given(SETS)
def test_metrics_are_those_of_scikit_learn(sets):
    true, predicted = sets
    logits, labels = per_label(torch.from_numpy(predicted).float() * 2 - 1), torch.from_numpy(true)
    expected = {f"f1_{kind}": f1_score(true, predicted, average=kind, zero_division=0) for kind in ("micro", "macro")}
    expected["acc"] = accuracy_score(true, predicted)
    for name, value in expected.items():
        assert metric_value(name, logits, labels) == pytest.approx(value)
        metric = make_metric(name, labels.shape[1], multi_label=True)
        for rows in (slice(0, 3), slice(3, None)):  # in two batches
            update_metric(metric, logits[rows].argmax(-1), labels[rows], None, regression=False)
        assert float(metric.compute()) == pytest.approx(value)
    report = class_report(logits, labels, [f"label {n}" for n in range(labels.shape[1])])
    assert report.matrix == multilabel_confusion_matrix(true, predicted).tolist()
    assert [one.f1 for one in report.classes] == pytest.approx(f1_score(true, predicted, average=None, zero_division=0))


def test_a_metric_of_another_kind_of_label_is_refused():
    assert np.isnan(metric_value("f1_micro", torch.zeros(0, 3, 2), torch.zeros(0, 3, dtype=torch.int64)))
    assert np.isnan(float(make_metric("f1_micro", 3, multi_label=True).compute()))
    for name, several in (("f1", True), ("map", True), ("f1_micro", False)):
        with pytest.raises(UserError, match=f"the metric '{name}'"):
            check_metric(name, 3, several)


@pytest.fixture
def made():
    """One logit a label (E, N, C), and labels (N, C)."""
    torch.manual_seed(0)
    return torch.randn(2, 40, 3) * 2, torch.randint(2, (40, 3))


def test_losses_are_binary_cross_entropies(made):
    z, labels = made
    expected = [F.binary_cross_entropy_with_logits(one, labels.float()) for one in z]
    assert torch.allclose(per_exit_losses(per_label(z), labels), torch.stack(expected))
    p, q = (z[n].div(2.0).sigmoid() for n in (1, 0))  # of the teacher and of the student, at T = 2
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert torch.allclose(logit_distances(per_label(z[:1]), per_label(z[1:]), 2.0), 4 * kl.mean().reshape(1), atol=1e-6)
    wrong = ((z > 0) != labels.bool()).float()
    assert torch.equal(exit_errors(per_label(z), labels), wrong.mean(-1))
    assert torch.allclose(Loss().of_logits(per_label(z), labels).mean(), torch.stack(expected).mean())
    assert torch.equal(ExitErrorRate().of_logits(per_label(z), labels), wrong.any(-1).float().mean(0))
    fit_exit_scorer(torch.randn(2, 40, 4), per_label(z), labels)


def test_indicators_are_of_each_label(made):
    z, _ = made
    p = z.sigmoid()
    bits = -(p * p.log2() + (1 - p) * (1 - p).log2())
    nothing = z.new_zeros(2, 40, 0)
    assert torch.allclose(Entropy().score_exits(per_label(z), nothing), bits.mean(-1), atol=1e-6)
    unsure = torch.minimum(p, 1 - p)
    assert torch.allclose(MaxProbability().score_exits(per_label(z), nothing), unsure.amax(-1), atol=1e-6)
    assert torch.allclose(Margin().score_exits(per_label(z), nothing), 2 * unsure.mean(-1), atol=1e-6)
    same = ((z[0] > 0) == (z[1] > 0)).all(-1)
    assert torch.equal(Patience().score_exits(per_label(z), nothing)[1] == 0.5, same)


def test_calibration_counts_each_label_by_itself(made):
    z, labels = made
    flat = torch.stack([torch.zeros_like(z), z], -1).flatten(1, 2)
    assert torch.equal(fit_temperatures(per_label(z), labels), fit_temperatures(flat, labels.flatten()))
    errors = expected_calibration_error(per_label(z), labels)
    assert torch.equal(errors, expected_calibration_error(flat, labels.flatten()))
