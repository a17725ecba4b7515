"""The stacked rule: its weights against scikit-learn, its indicators exit by exit."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import gmean
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny import tiny_model

from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord, replay
from mebert.models import PrototypeBank
from mebert.models.exit_scorer import fit_logistic
from mebert.policies import DistanceRatio, Stacked, TemperatureScaled, policy_from_spec

EXITS, SAMPLES, CLASSES = 4, 200, 3
LENGTHS = torch.arange(SAMPLES) * 7 % 23 + 2
MASK = (torch.arange(24) < LENGTHS.unsqueeze(1)).long()


def drawn(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (SAMPLES,), generator=generator)
    logits = torch.randn(EXITS, SAMPLES, CLASSES, generator=generator).cumsum(0)
    for index in range(EXITS):
        logits[index, torch.arange(SAMPLES), labels] += 1.0 + index
    return logits, torch.randn(EXITS, SAMPLES, 32, generator=generator), labels


def record_of(logits, labels, **scores):
    return ExitRecord(logits, labels, torch.arange(SAMPLES), LENGTHS, scores)


def with_prototypes():
    torch.manual_seed(0)
    model = tiny_model("albert")
    model.prototypes = PrototypeBank(3, 32, CLASSES, dim=8)
    model.prototypes.update(torch.randn(3, 9, 8), torch.arange(9) % CLASSES)
    return model


def by_hand(history, length):
    """The indicators of one sample after some exits: logits (i, C), tokens."""
    p = [z.double().softmax(-1).numpy() for z in history]
    answers = [int(z.argmax()) for z in history]
    moved = jensenshannon(p[-1], p[-2], base=2) ** 2 if len(p) > 1 else 0.0
    against = 1 - answers.count(answers[-1]) / (len(answers) + 1)
    u = min(max(scipy_entropy(p[-1]) / math.log(CLASSES), 1e-4), 1 - 1e-4)
    return [math.log(u / (1 - u)), against, moved, math.log(length / gmean(LENGTHS.numpy()))]


@pytest.mark.parametrize("penalty", [0.1, 1.0])
def test_logistic_models_equal_scikit_learn(penalty):
    x = torch.rand(3, 150, 4, generator=torch.Generator().manual_seed(1))
    y = (x.sum(-1) + 0.5 * torch.randn(3, 150, generator=torch.Generator().manual_seed(2)) > 2.2).float()
    found = fit_logistic(x, y, penalty)
    for features, targets, row in zip(x, y, found, strict=True):
        oracle = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=5000).fit(features.numpy(), targets.numpy())
        assert row[:-1].tolist() == pytest.approx(oracle.coef_[0].tolist(), rel=1e-3)
        assert float(row[-1]) == pytest.approx(float(oracle.intercept_[0]), rel=1e-3)


def test_an_exit_that_is_never_wrong_gives_small_finite_chances():
    found = fit_logistic(torch.rand(2, 50, 3), torch.stack([torch.zeros(50), torch.ones(50)]))
    assert found.isfinite().all()
    assert found[0, -1] < -5 < 5 < found[1, -1]


def test_scores_are_the_chances_of_the_fitted_models():
    logits, features, labels = drawn()
    policy = Stacked(0.3).bind(tiny_model("albert")).fitted(record_of(logits, labels))
    scores = policy.score_exits(logits, features, MASK)
    for i in range(EXITS):
        x = torch.tensor([by_hand(logits[: i + 1, n], int(LENGTHS[n])) for n in range(SAMPLES)])
        target = ((logits[i].argmax(-1) != labels) & (logits[-1].argmax(-1) == labels)).numpy()
        if not target.any():  # the last exit
            continue
        oracle = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-10, max_iter=5000))
        expected = torch.tensor(oracle.fit(x.numpy(), target).predict_proba(x.numpy())[:, 1]).float()
        torch.testing.assert_close(scores[i], expected, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(policy.score_record(record_of(logits, labels)), scores)
    # What it says is what happens, on the rows that it was fitted to.
    gained = (logits[1].argmax(-1) != labels) & (logits[-1].argmax(-1) == labels)
    assert float(scores[1].mean()) == pytest.approx(float(gained.float().mean()), abs=1e-3)


def test_with_prototypes_the_distance_ratio_is_an_indicator():
    logits, features, labels = drawn()
    model = with_prototypes()
    dr = DistanceRatio().bind(model).score_exits(logits, features)
    record = record_of(logits, labels, dr=dr)
    policy = Stacked(0.3).bind(model).fitted(record).bind(model)
    assert {len(row) for row in policy.weights} == {6}
    scores = policy.score_record(record)
    torch.testing.assert_close(policy.score_exits(logits, features, MASK), scores)
    weights = tuple((*row[:4], 0.0, row[5]) for row in policy.weights)
    others = Stacked(0.3, weights, policy.usual_length).bind(model)
    assert not torch.allclose(others.score_record(record), scores)
    with pytest.raises(UserError, match="needs the scores of 'dr'"):
        policy.score_record(record_of(logits, labels))
    # Exit by exit, with only those that stay.
    values = scores[:-1].flatten().sort().values
    threshold = float(values[len(values) // 2 : len(values) // 2 + 2].mean())  # between two scores
    live, staying, taken = policy.with_threshold(threshold), torch.arange(SAMPLES), {}
    state = live.start(MASK)
    for i in range(EXITS - 1):
        leave, state = live.decide(i, logits[i, staying], features[i, staying], state)
        taken |= dict.fromkeys(staying[leave].tolist(), i)
        staying, state = staying[~leave], tuple(part[~leave] for part in state)
    expected = replay(scores, threshold).tolist()
    assert 0 < len(taken) < SAMPLES
    assert [taken.get(n, EXITS - 1) for n in range(SAMPLES)] == expected


def test_it_is_fitted_to_the_scaled_logits_under_temperatures():
    logits, _, labels = drawn()
    model = tiny_model("albert")
    record = record_of(logits * 5, labels)
    both = TemperatureScaled(0.3, Stacked()).bind(model).fitted(record).bind(model)
    divided = torch.stack([z / t for z, t in zip(logits * 5, both.temperatures, strict=True)])
    alone = Stacked(0.3).bind(model).fitted(record_of(divided, labels))
    torch.testing.assert_close(both.score_record(record), alone.score_record(record_of(divided, labels)))
    assert policy_from_spec(both.spec()) == both


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Stacked(usual_length=0.0), "usual_length must be above 0, got 0"),
        (lambda: Stacked(weights=((1.0, 2.0), (1.0,))), "weights must be as many at each exit"),
        (lambda: Stacked(weights=((0.0,) * 5,)).bind(tiny_model()), r"weights of shape \(1, 5\).*must be \(3, 5\)"),
        (lambda: Stacked(weights=((0.0,) * 5,) * 4).bind(with_prototypes()), r"\(4, 5\).*must be \(4, 6\)"),
        (lambda: fit_logistic(torch.zeros(2, 0, 3), torch.zeros(2, 0)), "there are none"),
    ],
)
def test_mistakes_are_named(make, text):
    with pytest.raises(UserError, match=text):
        make()
