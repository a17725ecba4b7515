"""Every rule against its formula, written out exit by exit and sample by sample."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from tiny import tiny_model

from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord, point_at, replay
from mebert.metrics.record_files import load_record, save_record
from mebert.metrics.task import metric_value
from mebert.models import PrototypeBank
from mebert.policies import (
    FPABEE,
    DistanceRatio,
    Entropy,
    HybridDistanceEntropy,
    LearnedToExit,
    Margin,
    MaxProbability,
    Patience,
    PatientDivergence,
    PatientEntropy,
    TemperatureScaled,
    ValueChange,
    Voting,
    distance_ratio,
    hybrid_indicator,
    normalised_entropy,
    policy_by_name,
    policy_from_spec,
)
from mebert.policies.uncertainty import jensen_shannon

EXITS, SAMPLES, CLASSES = 6, 30, 3


def drawn(seed, classes=CLASSES):
    """Logits that drift from exit to exit, so that exits in a row often agree."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(EXITS, SAMPLES, classes, generator=generator)
    return steps.cumsum(0), torch.randn(EXITS, SAMPLES, 8, generator=generator)


def exits_by(rule):
    """The first exit whose history of one sample satisfies the rule, else the last."""
    return lambda z: next((i for i in range(EXITS - 1) if rule(z[: i + 1])), EXITS - 1)


def check(policy, rule, logits, features):
    scores = policy.score_exits(logits, features)
    assert scores.shape == logits.shape[:2]
    expected = [exits_by(rule)(logits[:, n]) for n in range(SAMPLES)]
    assert replay(scores, policy.threshold).tolist() == expected
    # Exit by exit with only those that stay, in another order, as the engines do it.
    staying, state, taken = torch.arange(SAMPLES).flip(0), None, torch.full((SAMPLES,), EXITS - 1)
    for exit_index in range(EXITS - 1):
        leave, state = policy.decide(exit_index, logits[exit_index, staying], features[exit_index, staying], state)
        taken[staying[leave]] = exit_index
        staying = staying[~leave]
        state = kept(state, ~leave)
    assert taken.tolist() == expected


def kept(state, rows):
    if state is None or isinstance(state, torch.Tensor):
        return None if state is None else state[rows]
    return tuple(kept(part, rows) for part in state)


def u(z):
    return -sum(p * math.log(p) for p in z.double().softmax(-1).tolist()) / math.log(len(z))


def divergence(a, b):
    return jensenshannon(a.double().softmax(-1).numpy(), b.double().softmax(-1).numpy(), base=2) ** 2


def entropy_of_the_mean(a, b):
    """As the released code has it: half the cross-entropy of each with the mean of both, over ln C."""
    p, q = (z.double().softmax(-1) for z in (a, b))
    m = ((p + q) / 2).log()
    return float(0.5 * -(p * m).sum() + 0.5 * -(q * m).sum()) / math.log(len(a))


def changes(distance, history):
    return [distance(a, b) for a, b in zip(history[1:], history[:-1], strict=True)]


def in_a_row(values, patience, limit):
    return len(values) >= patience and all(value < limit for value in values[-patience:])


def unsure(z):
    second, first = sorted(z.double().softmax(-1).tolist())[-2:]
    return 1 - (first - second)


def against(history):
    answers = [int(z.argmax()) for z in history]
    return 1 - answers.count(answers[-1]) / (len(answers) + 1)


def answer_of_released_pcee(history, patience, limit):
    """`modeling_pabee_bert.py` of the released code, do_ensemble 1, for one sample: exit and answer; 0 early: None."""
    counter, close = 0, []
    for index, z in enumerate(history):
        p = z.softmax(-1)
        counter = counter + 1 if u(z) < limit else 0
        close = [p] if counter == 0 else [*close, p]
        if counter == patience:
            return index, torch.stack(close).mean(0)
    return None


@pytest.mark.parametrize(("seed", "patience"), [(0, 1), (1, 2), (2, 3), (3, 2)])
def test_pcee_answers_with_the_mean_of_confident_exits(seed, patience):
    logits, features = drawn(seed)
    policy = PatientEntropy(0.6, patience=patience, average=True)
    exits = replay(policy.score_exits(logits, features), 0.6)
    answers = policy.answers(logits)
    assert torch.equal(answers[-1], logits[-1])
    early = 0
    for n in range(SAMPLES):
        released = answer_of_released_pcee(logits[:, n], patience, 0.6)
        if released is None or int(exits[n]) == EXITS - 1:
            continue
        early += 1
        assert int(exits[n]) == released[0]
        torch.testing.assert_close(answers[exits[n], n].softmax(-1), released[1])
    assert early > 5
    assert PatientEntropy(0.6, patience=patience).answers(logits) is None
    with pytest.raises(UserError, match="must have average false"):
        TemperatureScaled(policy=policy)


def test_what_a_policy_answers_is_what_is_measured_and_kept(tmp_path):
    logits, _ = drawn(4)
    labels = torch.arange(SAMPLES) % CLASSES
    record = ExitRecord(logits, labels, torch.arange(SAMPLES), torch.ones(SAMPLES, dtype=torch.int64))
    policy = PatientEntropy(0.7, patience=2, average=True)
    policy.set_scores(record)
    save_record(record, tmp_path / "pass.safetensors", {})
    for known in (record, load_record(tmp_path / "pass.safetensors")[0], record.select(torch.arange(SAMPLES))):
        exits, ones = replay(known.scores["pcee"], 0.7), torch.ones(EXITS, SAMPLES)
        point = point_at(known, "pcee", 0.7, range(1, EXITS + 1), ones, ones[0], partial(metric_value, "acc"))
        taken = policy.answers(logits)[exits, torch.arange(SAMPLES)]
        assert point.metric == pytest.approx(float((taken.argmax(-1) == labels).float().mean()))
        assert known.answered_by("entropy") is known


# Of a threshold t and a patience n: the policy, and whether a sample of that history leaves.
RULES = {
    "PABEE": (
        lambda t, n: Patience(patience=n),
        lambda history, t, n: in_a_row(changes(lambda a, b: a.argmax() != b.argmax(), history), n, True),
    ),
    "PCEE": (
        lambda t, n: PatientEntropy(t, patience=n),
        lambda history, t, n: in_a_row([u(z) for z in history], n, t),
    ),
    "F-PABEE": (
        lambda t, n: FPABEE(t, patience=n),
        lambda history, t, n: in_a_row(changes(entropy_of_the_mean, history), n, t),
    ),
    "F-PABEE's divergence": (
        lambda t, n: FPABEE(t, patience=n, measure="divergence"),
        lambda history, t, n: in_a_row(changes(divergence, history), n, t),
    ),
    "PABEE's regression": (
        lambda t, n: ValueChange(t, patience=n),
        lambda history, t, n: in_a_row(changes(lambda a, b: abs(float(a) - float(b)), history), n, t / (1 - t)),
    ),
    "FastBERT": (lambda t, n: Entropy(t), lambda history, t, n: u(history[-1]) < t),
    "CascadeBERT": (
        lambda t, n: MaxProbability(t),
        lambda history, t, n: max(history[-1].softmax(-1).tolist()) > 1 - t,
    ),
    "margin": (lambda t, n: Margin(t), lambda history, t, n: unsure(history[-1]) < t),
    "voting": (lambda t, n: Voting(t), lambda history, t, n: against(history) < t),
}


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500), st.integers(1, 5), st.sampled_from([0.02, 0.07, 0.2, 0.3, 0.45, 0.55, 0.7, 0.95]))
def test_each_rule_is_its_formula(name, seed, patience, threshold):
    make, rule = RULES[name]
    policy = make(threshold, patience)
    drawn_for = drawn(seed, classes=1 if policy.regression else CLASSES)
    check(policy, lambda history: rule(history, threshold, patience), *drawn_for)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 1.0))
def test_a_threshold_of_patience_is_a_patience(threshold):
    logits, features = drawn(0)
    by_patience = Patience(patience=math.floor(1 / threshold))
    scores = by_patience.score_exits(logits, features)
    assert torch.equal(replay(scores, threshold), replay(scores, by_patience.threshold))
    assert Patience(patience=3).with_threshold(threshold).threshold == threshold
    assert Patience(patience=3).with_threshold(1 / 3.5) == Patience(patience=3)


def test_the_rules_of_de3_by_loops():
    """DR and EDR from the Euclidean distances of g = W h + b to the prototypes, exit by exit and row by row."""
    model, (logits, _) = tiny_model(), drawn(4)
    bank = PrototypeBank(2, model.feature_size, CLASSES, dim=5)
    bank.update(torch.randn(2, 9, 5), torch.arange(9) % CLASSES)
    model.prototypes = bank
    features = torch.randn(EXITS, SAMPLES, model.feature_size)
    dr, edr = DistanceRatio().bind(model), HybridDistanceEntropy(lam=0.7).bind(model)
    for m in range(2):
        found = [policy.score(m, logits[m], features[m]).tolist() for policy in (dr, edr)]
        for row, (z, h) in enumerate(zip(logits[m], features[m], strict=True)):
            d = [float((bank.weight[m] @ h + bank.bias[m] - c).norm().detach()) for c in bank.prototypes[m]]
            r1 = d.pop(int(z.argmax()))
            ratio = 0.5 * (1 + (r1 - min(d)) / max(r1, min(d)))
            assert found[0][row] == pytest.approx(ratio, rel=1e-3, abs=1e-5)
            assert found[1][row] == pytest.approx(1.7 / (0.7 / ratio + 1 / u(z)), rel=1e-3, abs=1e-5)


def test_learned_to_exit():
    scorer = torch.nn.Linear(8, 1)
    policy = LearnedToExit(0.3).bind(
        SimpleNamespace(num_labels=CLASSES, num_exits=3, multi_label=False, exit_scorer=scorer)
    )
    logits, features = drawn(1)
    scores = policy.score_exits(logits, features).detach()
    torch.testing.assert_close(scores, 1 / (1 + (-(features * scorer.weight[0]).sum(-1) - scorer.bias).exp()).detach())
    assert policy.flops() == 16
    assert torch.equal(policy.with_threshold(0.2).score_exits(logits, features), scores)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=3, max_size=3), st.lists(st.floats(-30, 30), min_size=3, max_size=3))
def test_jensen_shannon_equals_scipy(first, second):
    p, q = (torch.tensor(x, dtype=torch.float64).softmax(-1) for x in (first, second))
    expected = jensenshannon(p.numpy(), q.numpy(), base=2) ** 2
    assert float(jensen_shannon(p, q)) == pytest.approx(0.0 if math.isnan(expected) else expected, abs=2e-6)


def test_f_pabee_by_hand_and_what_files_of_0_1_0_mean_by_it():
    """Two exits that are undecided, and two that contradict each other: H of the mean is ln 2 for both."""
    logits = torch.tensor([[[0.0, 0.0], [99.0, -99.0]], [[0.0, 0.0], [-99.0, 99.0]]])
    old = {"class_path": "mebert.policies.PatientDivergence", "init_args": {"threshold": 0.2, "patience": 1}}
    for policy, expected in (
        (FPABEE(patience=1), [1.0, 1.0]),
        (FPABEE(patience=1, measure="divergence"), [0.0, 1.0]),
        (policy_from_spec(old), [0.0, 1.0]),
    ):
        assert policy.score_exits(logits, logits)[1].tolist() == expected
    assert policy_from_spec(old).name == "f_pabee", "stored thresholds have that name"


def test_nats_name_the_exits_of_deebert():
    logits, features = drawn(1)
    policy = Entropy.nats(0.6, num_labels=CLASSES)
    in_nats = torch.tensor(scipy_entropy(logits.double().softmax(-1).numpy(), axis=-1))
    assert torch.equal(policy.score_exits(logits, features) < policy.threshold, in_nats < 0.6)


NEW = [
    Entropy(),
    HybridDistanceEntropy(lam=0.7, lam_grid=(0.5, 2.0)),
    Margin(0.2),
    Patience(0.3),
    Patience(patience=4),
    PatientEntropy(0.2, patience=3),
    FPABEE(0.2, patience=1),
    FPABEE(0.2, patience=1, measure="divergence"),
    ValueChange(0.2, patience=2),
    Voting(0.4),
    LearnedToExit(0.1),
    TemperatureScaled(0.3, Entropy(), (1.0, 2.5)),
    TemperatureScaled(0.3, TemperatureScaled(0.1, PatientEntropy(patience=3)), (0.5,)),
]


@pytest.mark.parametrize("policy", NEW, ids=lambda p: p.name)
def test_saved_by_its_public_home_and_made_again(policy):
    spec = policy.spec()
    assert spec["class_path"] == f"mebert.policies.{type(policy).__name__}"
    assert policy_from_spec(spec) == policy
    assert policy_by_name(policy.name) is type(policy)


def test_entropy_equals_scipy():
    logits = torch.randn(50, 4, dtype=torch.float64) * 3
    expected = scipy_entropy(logits.softmax(-1).numpy(), axis=-1) / math.log(4)
    torch.testing.assert_close(normalised_entropy(logits), torch.tensor(expected).float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [95.0, 1e4])
def test_extreme_logits_are_certain_not_nan(dtype, size):
    logits = torch.tensor([[size, -size, -size], [size, size, size], [-size, -size, -size]], dtype=dtype)
    assert normalised_entropy(logits).tolist() == pytest.approx([0.0, 1.0, 1.0], abs=1e-6)
    leave, _ = Entropy(0.1).decide(0, logits, torch.zeros(3, 4))
    assert leave.tolist() == [True, False, False]
    assert MaxProbability().score(0, logits, torch.zeros(3, 4))[0] == 0
    for policy in (Margin(), Patience(), PatientEntropy(), FPABEE(), PatientDivergence(), Voting()):
        scores = policy.score_exits(logits.expand(4, 3, 3), torch.zeros(4, 3, 4))
        assert not scores.isnan().any(), policy.name


def test_an_extreme_estimate_is_no_nan():
    assert not ValueChange().score_exits(torch.full((4, 3, 1), 1e4), torch.zeros(4, 3, 4)).isnan().any()


@pytest.mark.parametrize(
    ("distances", "predicted", "expected"),
    [
        ([1.0, 2.0, 5.0], 0, 0.25),  # r1 = 1, r2 = 2: (1 + (1 - 2) / 2) / 2
        ([1.0, 2.0, 5.0], 1, 0.75),  # the prediction is not the nearest: r1 = 2, r2 = 1
        ([1.0, 2.0, 5.0], 2, 0.9),
        ([3.0, 3.0, 9.0], 0, 0.5),
        ([0.0, 4.0, 4.0], 0, 0.0),
        ([0.0, 0.0, 4.0], 0, 0.5),  # both at distance 0: undecided
        ([1.0, math.inf, math.inf], 0, 0.0),  # no other prototype
        ([math.inf, 1.0, 2.0], 0, 1.0),  # the predicted class has none
    ],
)
def test_distance_ratio_by_hand(distances, predicted, expected):
    got = distance_ratio(torch.tensor([distances]), torch.tensor([predicted]))
    assert got.tolist() == pytest.approx([expected])


@given(dr=st.floats(0, 1), u=st.floats(0, 1), lam=st.floats(0, 100))
def test_hybrid_lies_between_its_parts_and_equals_the_formula(dr, u, lam):
    got = float(hybrid_indicator(torch.tensor([dr]), torch.tensor([u]), lam))
    assert hybrid_indicator(torch.tensor([dr]), torch.tensor([u]), math.inf).item() == torch.tensor(dr).item()
    assert min(dr, u) - 1e-6 <= got <= max(dr, u) + 1e-6
    if dr > 1e-6 and u > 1e-6:
        assert got == pytest.approx((lam + 1) / (lam / dr + 1 / u), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FPABEE(measure="kl"), "measure must be mean_entropy or divergence, got 'kl'"),
        (lambda: Patience(patience=0), "Patience: patience must be at least 1, got 0"),
        (lambda: DistanceRatio().bind(tiny_model()), "needs prototypes"),
        (lambda: Entropy.nats(0.8, num_labels=2), r"the limit must be in \[0, ln C\], got 0.8"),
        (lambda: LearnedToExit().bind(tiny_model()), "needs a learning-to-exit head"),
        (lambda: LearnedToExit().score(0, torch.zeros(1, 2), torch.zeros(1, 4)), "not bound"),
        (lambda: TemperatureScaled(temperatures=(1.0, 0.0)), "temperatures must be above 0"),
        (lambda: TemperatureScaled(temperatures=(1.0,)).bind(tiny_model()), "1 temperatures, but the model has 3"),
        (lambda: TemperatureScaled().bind(tiny_model(num_labels=1)), "is for regression"),
        (lambda: Entropy().bind(tiny_model(num_labels=1)), "'entropy' does not fit a model with 1 label.*'change'"),
        (lambda: ValueChange().bind(tiny_model()), "'change' does not fit a model with 3 label.*'entropy'"),
    ],
)
def test_mistakes_are_named(make, text):
    with pytest.raises(UserError, match=text):
        make()
