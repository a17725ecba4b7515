"""Temperatures against scipy, calibration errors against torchmetrics."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from tiny import tiny_model
from torchmetrics.functional.classification import multiclass_calibration_error

from mebert.errors import UserError
from mebert.inference import prepare_model, prepare_policy
from mebert.metrics.curve import ExitRecord
from mebert.models import PrototypeBank
from mebert.policies import (
    DistanceRatio,
    Entropy,
    HybridDistanceEntropy,
    PatientEntropy,
    TemperatureScaled,
    Voting,
    hybrid_indicator,
)
from mebert.policies import normalised_entropy as u
from mebert.policies.temperature import HIGHEST, LOWEST, expected_calibration_error, fit_temperatures


def drawn(exits=4, samples=300, classes=3, seed=0):
    """Exits that are right more and more often, and too sure (or not sure enough) in different ways."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (samples,), generator=generator)
    logits = torch.randn(exits, samples, classes, generator=generator)
    for index in range(exits):
        logits[index, torch.arange(samples), labels] += 0.5 + 0.5 * index
    return logits * torch.tensor([4.0, 0.3, 1.0, 2.0])[:exits].view(-1, 1, 1), labels


def test_each_exit_has_its_own_minimum_however_far_the_exits_are_apart():
    """Fitted together, exits that are far too sure must not throw others past their minimum."""
    generator = torch.Generator().manual_seed(52)
    labels = torch.randint(0, 3, (200,), generator=generator)
    logits = torch.randn(12, 200, 3, generator=generator)
    logits[:, torch.arange(200), labels] += torch.linspace(0, 3, 12).view(-1, 1)
    scales = 10 ** torch.linspace(-1.5, 1.5, 12)[torch.randperm(12, generator=generator)]
    logits = logits * scales.view(-1, 1, 1)
    for z, temperature in zip(logits.double().numpy(), fit_temperatures(logits, labels).tolist(), strict=True):

        def nll(log_t, z=z):
            return -log_softmax(z / math.exp(log_t), axis=-1)[range(len(z)), labels.numpy()].mean()

        bounds = math.log(LOWEST), math.log(HIGHEST)
        expected = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-9})
        assert math.log(temperature) == pytest.approx(expected.x, abs=1e-4)


def test_unlabelled_rows_do_not_count():
    logits, labels = drawn()
    more = torch.cat([logits, 9 * logits], 1), torch.cat([labels, torch.full_like(labels, -1)])
    torch.testing.assert_close(fit_temperatures(*more), fit_temperatures(logits, labels))


def test_temperatures_stay_within_bounds():
    labels = torch.arange(60) % 3
    right = torch.nn.functional.one_hot(labels, 3).float()
    found = fit_temperatures(torch.stack([right, -right, torch.zeros_like(right), 1e4 * right]), labels)
    assert found.tolist() == pytest.approx([LOWEST, HIGHEST, 1.0, 1.0]), "where all are as good, 1"


@pytest.mark.parametrize("labels", [torch.full((300,), -1), torch.zeros(300)])
def test_nothing_to_fit_to_is_named(labels):
    logits = drawn()[0][..., : 3 if labels[0] < 0 else 1]
    with pytest.raises(UserError, match="temperatures are fitted to labelled rows"):
        fit_temperatures(logits, labels.long())


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_torchmetrics(bins):
    logits, labels = drawn(samples=500)
    found = expected_calibration_error(logits, labels, bins)
    expected = [multiclass_calibration_error(z.softmax(-1), labels, 3, n_bins=bins) for z in logits]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-4)


def record_of(logits, labels, **scores):
    rows = torch.arange(len(labels))
    return ExitRecord(logits, labels, rows, torch.full_like(rows, 9), scores)


@pytest.mark.parametrize("inner", [Entropy(), PatientEntropy(patience=2), Voting()], ids=lambda p: p.name)
def test_a_wrapped_policy_sees_divided_logits(inner):
    logits, labels = drawn()
    policy = TemperatureScaled(0.4, inner).fitted(record_of(logits, labels))
    assert policy.threshold == 0.4
    assert policy.temperatures == pytest.approx(fit_temperatures(logits, labels).tolist())
    divided = torch.stack([z / t for z, t in zip(logits, policy.temperatures, strict=True)])
    nothing = torch.zeros(4, 300, 0)
    expected = inner.score_exits(divided, nothing)
    torch.testing.assert_close(policy.score_exits(logits, nothing), expected)
    torch.testing.assert_close(policy.score_record(record_of(logits, labels)), expected)


def test_edr_is_scored_from_a_record_with_its_distances():
    logits, labels = drawn()
    dr = torch.rand(4, 300)
    record = record_of(logits, labels, dr=dr)
    torch.testing.assert_close(HybridDistanceEntropy(lam=2.0).score_record(record), hybrid_indicator(dr, u(logits), 2))
    policy = TemperatureScaled(policy=HybridDistanceEntropy(lam=2.0), temperatures=(2.0,) * 4)
    torch.testing.assert_close(policy.score_record(record), hybrid_indicator(dr, u(logits / 2), 2.0))
    with pytest.raises(UserError, match=r"needs the scores of 'dr'.*recorded: none"):
        policy.score_record(record_of(logits, labels))


def test_a_policy_bound_to_a_copy_of_the_model_leaves_the_first_as_it_is():
    model = tiny_model("albert")
    model.prototypes = PrototypeBank(3, 32, 3, dim=8)
    policy = TemperatureScaled(policy=TemperatureScaled(policy=DistanceRatio())).bind(model)
    fast = prepare_model(model)
    other = prepare_policy(policy, fast)
    assert policy.policy.policy.bank is model.prototypes
    assert other.policy.policy.bank is fast.prototypes
