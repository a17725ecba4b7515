"""The projection against scikit-learn's, and what is projected."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

import mebert
from mebert import MultiExitModel
from mebert.commands.inspect.command import InspectSettings
from mebert.commands.inspect.samples import run_rows
from mebert.commands.inspect.source import open_model
from mebert.commands.inspect.spaces import exit_spaces, fit_plane
from mebert.commands.inspect.trace import trace_texts

from .conftest import saved

CPU = {"device": "cpu", "precision": "float32"}


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 40), st.integers(2, 12), st.integers(0, 10**6))
def test_the_plane_is_that_of_scikit_learn(rows, dims, seed):
    points = np.random.default_rng(seed).normal(size=(rows, dims)) * np.linspace(3, 1, dims)
    plane, oracle = fit_plane(torch.from_numpy(points)), PCA(n_components=2, svd_solver="full").fit(points)
    assert plane.explained == pytest.approx(oracle.explained_variance_ratio_, abs=1e-9)
    others = np.random.default_rng(seed + 1).normal(size=(5, dims))
    ours, theirs = plane.project(torch.from_numpy(others)).numpy(), oracle.transform(others)
    for axis in (0, 1):
        sign = np.sign(oracle.components_[axis] @ plane.axes[axis].numpy())
        np.testing.assert_allclose(ours[:, axis], sign * theirs[:, axis], atol=1e-8)
        assert plane.axes[axis, plane.axes[axis].abs().argmax()] > 0, "the same picture everywhere"


@pytest.mark.parametrize("points", [[[1.0, 2.0, 3.0]], [[0.0, 1.0], [0.0, 1.0]], [[3.0], [4.0], [6.0]]])
def test_points_that_span_no_plane(points):
    plane = fit_plane(torch.tensor(points))
    assert torch.isfinite(plane.project(torch.tensor(points))).all()
    assert plane.explained[1] == 0.0


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "own.csv"
    names = ["no", "maybe", "yes"]
    lines = [f"w{i % 40} w{i * 3 % 17} w{i % 5},{names[i % 3]}" for i in range(90)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["prototypes", "none"])
def found(request, rows, tmp_path_factory):
    """A model with or without prototypes, its rows, and its spaces."""
    folder = tmp_path_factory.mktemp("model")
    saved(folder, 3, mebert.Entropy(0.6), request.param, label_names=["no", "maybe", "yes"])
    opened = open_model(str(folder), **CPU)
    policy = opened.classifier.choose_policy()
    samples = run_rows(opened, policy, InspectSettings("model", file=str(rows), samples=60))
    traces = trace_texts(opened, policy, ["w1 w2 w3", "w9"])
    return MultiExitModel.from_pretrained(folder), samples, traces, exit_spaces(opened.model, traces, samples)


@torch.no_grad()
def vectors(model, index, texts):
    """What an exit makes of texts, one by one and without the package's own copy of the model."""
    found = []
    for text in texts:
        ids = torch.tensor([[2, *(int(word[1:]) + 5 for word in text.split()), 3]])
        feature = model(ids, torch.ones_like(ids), torch.zeros_like(ids)).features[index, 0]
        if model.prototypes is not None and index < 2:
            feature = model.prototypes.weight[index] @ feature + model.prototypes.bias[index]
        found.append(feature.numpy())
    return np.stack(found)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_samples_marks_and_texts_lie_in_one_plane(found, index):
    model, samples, traces, spaces = found
    space = spaces[index]
    own = vectors(model, index, samples.texts)
    oracle = PCA(n_components=2, svd_solver="full").fit(own)
    at = oracle.transform(own)
    signs = np.sign((at * space.points.numpy()).sum(0))
    np.testing.assert_allclose(space.points, at * signs, atol=2e-4)
    texts = oracle.transform(vectors(model, index, [trace.text for trace in traces]))
    np.testing.assert_allclose(space.texts, texts * signs, atol=2e-4)
    if model.prototypes is not None and index < 2:
        marks, kind = model.prototypes.prototypes[index].numpy(), "prototypes"
    else:
        marks, kind = np.stack([own[samples.labels.numpy() == label].mean(0) for label in range(3)]), "class means"
    assert (space.mark_kind, space.mark_labels) == (kind, [0, 1, 2])
    np.testing.assert_allclose(space.marks, oracle.transform(marks) * signs, atol=2e-4)
    assert space.marks[0, 0] <= space.marks[-1, 0], "from left to right in every panel"
    nearest = KNeighborsClassifier(1).fit(marks, [0, 1, 2]).predict(own)
    assert space.nearest_right == pytest.approx((nearest == samples.labels.numpy()).mean())


def test_samples_are_drawn_in_order_and_keep_their_texts(found, rows):
    _, samples, _, _ = found
    assert samples.what == f"60 of 90 rows of {rows}"
    lines = rows.read_text().splitlines()[1:]
    labels = ["no", "maybe", "yes"]
    drawn = [f"{text},{labels[label]}" for text, label in zip(samples.texts, samples.labels, strict=True)]
    assert set(drawn) <= set(lines)
    assert lines.index(drawn[0]) < lines.index(drawn[-1])


def test_texts_alone_span_the_plane_with_the_prototypes(tmp_path):
    opened = open_model(str(saved(tmp_path / "model", 2, mebert.Entropy(0.6))), **CPU)
    traces = trace_texts(opened, opened.classifier.choose_policy(), ["w1 w2"])
    spaces = exit_spaces(opened.model, traces, None)
    assert [len(space.texts) for space in spaces] == [1, 1, 1]
    assert [space.mark_kind for space in spaces] == ["prototypes", "prototypes", "none"]
    assert spaces[0].explained[0] > 0.3
    assert [space.exit_right for space in spaces] == [None] * 3


def test_a_regressions_values_rise_from_left_to_right(tmp_path):
    opened = open_model(str(saved(tmp_path / "model", 1, mebert.ValueChange(0.4))), **CPU)
    (tmp_path / "own.csv").write_text("text,label\n" + "".join(f"w{i} w{i // 2},{i}\n" for i in range(40)))
    samples = run_rows(
        opened, opened.classifier.choose_policy(), InspectSettings("model", file=str(tmp_path / "own.csv"))
    )
    for space in exit_spaces(opened.model, [], samples):
        assert np.corrcoef(space.points[:, 0], samples.labels)[0, 1] >= 0
        assert (space.mark_kind, space.exit_right) == ("none", None)
