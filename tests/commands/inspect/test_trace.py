"""What is shown of a text is what the classifier does with it, and what the formulas say."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

import mebert
from mebert import CascadeModel, EarlyExitClassifier, MultiExitModel
from mebert.commands.inspect.source import open_model
from mebert.commands.inspect.trace import shorten, trace_texts

from .conftest import saved

TEXTS = [" ".join(f"w{(7 * i + 3 * k) % 45}" for k in range(2 + i % 6)) for i in range(16)]
CPU = {"device": "cpu", "precision": "float32"}
FITTED = {
    "weights": ((0.9, 0.3, 0.2, -0.4, 0.5, 0.1), (0.7, 0.5, 0.1, 0.4, -0.5, 0.2), (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "usual_length": 5.0,
}
POLICIES = [
    mebert.Entropy(),
    mebert.MaxProbability(),
    mebert.Margin(),
    mebert.Patience(patience=1),
    mebert.PatientEntropy(patience=2),
    mebert.PatientDivergence(patience=1),
    mebert.Voting(),
    mebert.TemperatureScaled(policy=mebert.Margin(), temperatures=(0.7, 1.3, 2.0)),
    mebert.Stacked(**FITTED),
    mebert.DistanceRatio(),
    mebert.HybridDistanceEntropy(lam=0.5),
    mebert.LearnedToExit(),
    mebert.FixedExit(exit=2),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    home = tmp_path_factory.mktemp("saved")
    return {labels: str(saved(home / str(labels), labels)) for labels in (1, 2, 3)}


@pytest.fixture(scope="module")
def opened(folders):
    return {labels: open_model(folder, **CPU) for labels, folder in folders.items()}


@pytest.fixture(scope="module")
def classifiers(folders):
    return {labels: EarlyExitClassifier.from_pretrained(folder, **CPU) for labels, folder in folders.items()}


def split_by(opened, policy, texts):
    """The policy at a threshold at which half of the texts leave early, as far as their scores differ."""
    if policy.name == "fixed":
        return policy
    traces = trace_texts(opened, opened.classifier.choose_policy(policy), texts)
    surest = sorted({min(1.0, *(round(step.score, 5) for step in trace.steps[:-1])) for trace in traces})
    middle = len(surest) // 2
    return policy.with_threshold((surest[middle - 1] + surest[middle]) / 2)


def agree(classify, opened, policy, texts):
    """The exits that both take."""
    traces = trace_texts(opened, opened.classifier.choose_policy(policy), texts)
    answers = classify(texts, policy=policy)
    assert [trace.exit for trace in traces] == [answer.exit for answer in answers]
    for trace, answer in zip(traces, answers, strict=True):
        taken = trace.taken
        assert taken.decision == "leaves here"
        if answer.label is None:
            assert taken.answer == pytest.approx(answer.score, abs=1e-5)
        else:
            assert taken.answer == answer.label
            assert taken.probabilities == pytest.approx(answer.probabilities, abs=1e-5)
        decisions = [step.decision for step in trace.steps]
        assert set(decisions[trace.exit :]) <= {"not reached"}
        before = "not asked" if policy.name == "fixed" else "goes on"
        assert set(decisions[: trace.exit - 1]) <= {before}
    return {trace.exit for trace in traces}


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_the_exit_is_the_classifiers(classifiers, opened, policy, labels):
    texts = TEXTS if labels == 2 else list(zip(TEXTS, reversed(TEXTS), strict=True))
    policy = split_by(opened[labels], policy, texts)
    exits = agree(classifiers[labels], opened[labels], policy, texts)
    assert exits == {2} if policy.name == "fixed" else len(exits) > 1


def test_a_regression(classifiers, opened):
    policy = split_by(opened[1], mebert.ValueChange(), TEXTS)
    assert len(agree(classifiers[1], opened[1], policy, TEXTS)) > 1
    (trace,) = trace_texts(opened[1], opened[1].classifier.choose_policy(policy), TEXTS[:1])
    first = trace.steps[0]
    assert (first.confidence, first.entropy, first.ratio) == (None, None, None)
    assert first.score == math.inf, "there is no estimate before it to compare with"
    assert trace.as_dict()["exits"][0]["score"] is None, "JSON knows no infinity"


def test_a_policy_that_never_fires_is_not_asked_and_costs_no_heads(opened):
    policy = opened[2].classifier.choose_policy(mebert.Entropy(threshold=0.0))
    (trace,) = trace_texts(opened[2], policy, TEXTS[:1])
    assert [step.decision for step in trace.steps] == ["not asked", "not asked", "leaves here"]
    assert trace.taken.speedup_flops == pytest.approx(1.0)


def test_every_number_by_hand(folders, opened):
    model = MultiExitModel.from_pretrained(folders[3])
    policy = opened[3].classifier.choose_policy(mebert.Entropy(threshold=0.5))
    for trace in trace_texts(opened[3], policy, TEXTS[:4]):
        ids = torch.tensor([trace.input_ids])
        with torch.no_grad():
            outputs = model(ids, torch.ones_like(ids), torch.zeros_like(ids))
        for index, step in enumerate(trace.steps):
            p = softmax(outputs.logits[index, 0].numpy())
            assert step.confidence == pytest.approx(p.max(), abs=1e-5)
            assert step.answer == model.label_names[p.argmax()]
            assert step.entropy == pytest.approx(entropy(p, base=3), abs=1e-5)
            assert step.speedup_layers == 3 / (index + 1)
            if index == 2:
                assert step.score is None
                assert step.distance is None
                continue
            assert step.score == pytest.approx(step.entropy, abs=1e-6)
            bank = model.prototypes
            weight, bias = bank.weight[index].detach().numpy(), bank.bias[index].detach().numpy()
            g = weight @ outputs.features[index, 0].numpy()
            far = np.array([np.linalg.norm(g + bias - c) for c in bank.prototypes[index].numpy()])
            own, other = far[p.argmax()], np.delete(far, p.argmax()).min()
            assert step.distance == pytest.approx(own, rel=1e-4)
            assert step.other_distance == pytest.approx(other, rel=1e-4)
            assert step.ratio == pytest.approx(0.5 * (1 + (own - other) / max(own, other)), abs=1e-4)


def test_a_cascade(folders, tmp_path):
    joined = CascadeModel.from_folders([folders[2], folders[2]])
    joined.save_pretrained(tmp_path, open_model(folders[2], **CPU).classifier.tokenizer, mebert.Entropy(0.5))
    opened = open_model(str(tmp_path), **CPU)
    classify = EarlyExitClassifier.from_pretrained(tmp_path, **CPU)
    exits = agree(classify, opened, split_by(opened, mebert.Entropy(), TEXTS), TEXTS)
    assert exits == {1, 2}
    (trace,) = trace_texts(opened, opened.classifier.choose_policy(), TEXTS[:1])
    assert [step.speedup_layers for step in trace.steps] == [2.0, 1.0]
    assert trace.steps[1].speedup_flops == pytest.approx(0.5, rel=0.01), "both have run; the plain model is the last"


def test_a_text_in_a_line():
    assert shorten(("a\nb", "c")) == "a b | c"
    assert shorten("x" * 300) == "x" * 199 + "…"
    assert shorten("red \x1b[31m text") == "red [31m text", "a terminal must not obey it"
