"""The graphs of an export give PyTorch's logits and scores: of every family, policy and pooling, alone and as one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from tiny import tiny_batch, tiny_model

from mebert.data.tokenizers import load_tokenizer
from mebert.errors import UserError
from mebert.models import SUPPORTED_FAMILIES, MultiExitModel, build_encoder
from mebert.models.encoder import EncoderAdapter
from mebert.models.prototypes import PrototypeBank
from mebert.models.windows import flat_windows
from mebert.onnx.asked import with_question
from mebert.onnx.graphs import embedding_graph, exit_graphs
from mebert.onnx.runner import session_options
from mebert.onnx.single_graph import NAME, SingleGraph, single_graph
from mebert.onnx.whole_graph import whole_graph
from mebert.policies import ExitPolicy, PatientEntropy, Stacked, policy_by_name
from mebert.storage.trusted_classes import subclasses_of

POLICIES = sorted({p.name for p in subclasses_of(ExitPolicy) if "name" in vars(p) and p.regression is not True})


def session(graph):
    return onnxruntime.InferenceSession(graph.SerializeToString(), session_options(None))


def chain(embed, exits, inputs, windows=None):
    """Logits (E, B, C) and scores (E, B) of the exported graphs, one after the other."""
    run = session(embed)
    hidden, *bias = run.run(None, {value.name: inputs[value.name].numpy() for value in run.get_inputs()})
    carried, logits, scores = [], [], []
    for found in exits:
        run = session(found)
        feed = {"hidden": hidden, "attention_mask": inputs["attention_mask"].numpy(), "average": windows}
        feed |= {f"carried_{n}": c for n, c in enumerate(carried)} | ({"bias": bias[0]} if bias else {})
        hidden, *parts = run.run(None, {value.name: feed[value.name] for value in run.get_inputs()})
        logits.append(torch.from_numpy(parts[0]))
        scores.append(torch.from_numpy(parts[1]))
        carried = parts[2:]
    return torch.stack(logits), torch.stack(scores)


def every_weight(graph):
    for weight in graph.initializer:
        yield numpy_helper.to_array(weight)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from every_weight(attribute.g)


def nested(embed, exits, problem, windows=False):
    """The same graphs in one, opened; that graph; and one of all layers and the last exit."""
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name, f"exit_{number}.onnx") for number in range(len(exits))]
        for file, graph in zip([Path(name, "embed.onnx"), *files], [embed, *exits], strict=True):
            onnx.save(with_question(graph) if file in files[:-1] else graph, file)
        found = single_graph(Path(name), [file.name for file in files], problem, windows)
        onnx.save(found, Path(name, NAME))
        return SingleGraph(Path(name, NAME), 0), found, whole_graph(Path(name), [file.name for file in files])


def alone(embed, exits, inputs, problem, logits, scores):
    """The same graphs in one, text by text: PyTorch's exit and logits at thresholds below, between and above scores."""
    run, found, whole = nested(embed, exits, problem, inputs["input_ids"].dim() == 3)
    if inputs["input_ids"].dim() == 2:
        without = session(whole)
        (last,) = without.run(None, {value.name: inputs[value.name].numpy() for value in without.get_inputs()})
        torch.testing.assert_close(torch.from_numpy(last), logits[-1], atol=1e-4, rtol=0)
    large = [weight.tobytes() for weight in every_weight(found.graph) if weight.size > 300]
    assert len(large) == len(set(large)), "a weight is there twice"
    middle, taken = float(scores[:-1].nan_to_num(1.0, 1.0, 0.0).mean()), set()
    for limit in (0.0, middle, 1e9, [middle * (1 + place % 2) for place in range(len(exits) - 1)]):
        limits = torch.tensor(limit if isinstance(limit, list) else [limit] * (len(exits) - 1)).unsqueeze(1)
        leaving = torch.cat([scores[:-1] < limits, torch.ones_like(scores[:1], dtype=torch.bool)]).int().argmax(0)
        for row, mask in enumerate(inputs["attention_mask"]):
            ids = inputs["input_ids"][row].reshape(-1, mask.shape[-1])
            counts = mask.reshape(ids.shape).sum(1).tolist()
            text = [(own[:count].tolist(), [0] * count) for own, count in zip(ids, counts, strict=True) if count]
            answer, number = run.run([text], limit)
            assert number[0] == leaving[row], (limit, scores)
            torch.testing.assert_close(torch.from_numpy(answer)[0], logits[number[0], row], atol=1e-4, rtol=0)
            taken.add(int(number[0]))
    return taken


@torch.no_grad()
def assert_agrees(model, policy, inputs, windows=False):
    outputs = model(**inputs)
    wanted = policy.score_exits(outputs.logits, outputs.features, inputs["attention_mask"].flatten(1))
    embed = embedding_graph(model, "token_type_ids" in inputs)
    exits = [found.graph for found in exit_graphs(model, policy, windows)]
    average, rows = None, inputs
    if windows:
        (ids, mask, _), counts = flat_windows(**inputs)
        rows, text = {"input_ids": ids, "attention_mask": mask}, np.repeat(np.arange(len(counts)), counts)
        average = (np.arange(len(counts))[:, None] == text) / counts[:, None]
    logits, scores = chain(embed, exits, rows, None if average is None else average.astype(np.float32))
    answers = policy.answers(outputs.logits)
    answers = outputs.logits if answers is None else answers
    torch.testing.assert_close(logits, answers, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores, wanted, atol=1e-4, rtol=0)
    taken = alone(embed, exits, inputs, model.problem_type, answers, wanted)
    assert len(taken) > 1 or not wanted[:-1].isfinite().any(), "some leave early where any may"


@pytest.mark.slow
@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_every_family_gives_pytorchs_logits_and_scores(family):
    model = tiny_model(family, exit_layers=[1, tiny_model(family).num_layers], pooling="mean")
    assert_agrees(model, Stacked().bind(model), tiny_batch(batch=4, tokens=11))
    fused = next(exit_graphs(model, Stacked().bind(model), False)).fused
    assert fused == (family not in ("deberta-v2", "modernbert", "eurobert"))


class Doubled(EncoderAdapter):
    families = ()

    def layer(self, index, hidden, mask):
        return super().layer(index, hidden * 2, mask)


@pytest.mark.slow
def test_layers_that_a_subclass_runs_otherwise_are_not_fused():
    model = tiny_model(exit_layers=[1, 3])
    model.adapter = Doubled(model.encoder)
    assert_agrees(model, policy_by_name("entropy")().bind(model), tiny_batch())
    assert not next(exit_graphs(model, policy_by_name("entropy")().bind(model), False)).fused


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "max", "attention", "fastbert"])
def test_every_pooling(pooling):
    model = tiny_model(pooling=pooling)
    assert_agrees(model, policy_by_name("entropy")().bind(model), tiny_batch())


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_gives_its_scores(name):
    model = tiny_model()
    if name in ("dr", "edr"):
        model.prototypes = PrototypeBank(2, model.feature_size, 3, dim=5)
        model.prototypes.prototypes.normal_()
        model.prototypes.seen.fill_(True)
    if name == "learned":
        model.exit_scorer = torch.nn.Linear(model.feature_size, 1)
    assert_agrees(model, policy_by_name(name)().bind(model), tiny_batch())


@pytest.mark.slow
def test_an_exit_that_is_not_asked_gives_the_layers_alone():
    model = tiny_model()
    found = next(exit_graphs(model, policy_by_name("entropy")().bind(model), False))
    plain, asked = session(found.graph), session(with_question(found.graph))
    feed = {"hidden": np.random.default_rng(0).normal(size=(2, 5, model.adapter.hidden_size)).astype(np.float32)}
    feed["attention_mask"] = np.ones((2, 5), np.int64)
    wanted = plain.run(None, feed)
    for ask in (True, False):
        hidden, *answers = asked.run(None, feed | {"ask": np.asarray(ask)})
        np.testing.assert_array_equal(hidden, wanted[0])
        for one, other in zip(answers, wanted[1:], strict=True):
            np.testing.assert_array_equal(one, other if ask else np.zeros(0, np.float32))


@pytest.mark.slow
def test_a_policy_that_answers_for_several_exits():
    model = tiny_model()
    assert_agrees(model, PatientEntropy(average=True).bind(model), tiny_batch())


@pytest.mark.slow
@pytest.mark.parametrize("problem", ["regression", "multi_label_classification", "single_label_classification"])
def test_the_single_graph_gives_each_kind_of_answer(problem):
    model = tiny_model(num_labels=1 if problem == "regression" else 3, problem_type=problem)
    policy = policy_by_name("change" if problem == "regression" else "entropy")().bind(model)
    exits = [found.graph for found in exit_graphs(model, policy, False)]
    run, *_ = nested(embedding_graph(model, False), exits, problem)
    with torch.no_grad():
        logits = model(**tiny_batch(batch=1, padded=False)).logits[-1, 0].numpy()
    answer = run.answer([(tiny_batch(batch=1, padded=False)["input_ids"][0].tolist(), [0] * 9)], 0.0)
    assert answer["exit"] == 3
    np.testing.assert_allclose(answer["logits"], logits, atol=1e-4)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    if problem == "regression":
        assert answer["score"] == pytest.approx(logits[0], abs=1e-4)
    elif problem == "multi_label_classification":
        np.testing.assert_allclose(answer["probabilities"], shares[:, 1], atol=1e-4)
        assert answer["labels"].tolist() == (logits[:, 1] > logits[:, 0]).astype(int).tolist()
    else:
        np.testing.assert_allclose(answer["probabilities"], shares, atol=1e-4)
        assert answer["label"] == logits.argmax()


def test_a_single_graph_has_two_gigabytes_and_32_exits_at_most(tmp_path):
    for name in ("embed.onnx", "exit_1.onnx"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**30)
    with pytest.raises(UserError, match=r"single_graph: the graphs have 2.1 GB .* leave out --single_graph"):
        single_graph(tmp_path, ["exit_1.onnx"], "regression", False)
    with pytest.raises(UserError, match=r"can hold 32 exits one in the other, and this model has 33"):
        single_graph(tmp_path, ["exit_1.onnx"] * 33, "regression", False)


@pytest.mark.slow
def test_a_single_graph_of_as_many_exits_as_there_may_be(tmp_path):
    model = tiny_model(exit_layers=[1, 3])
    policy = policy_by_name("entropy")().bind(model)
    first, second = (found.graph for found in exit_graphs(model, policy, False))
    run, *_ = nested(embedding_graph(model, False), [first] + [second] * 31, model.problem_type)
    assert run.answer([([5, 6, 7], [0, 0, 0])], 0.0)["exit"] == 32
    assert run.answer([([5, 6, 7], [0, 0, 0])], [0.0] * 20 + [9.0] * 11)["exit"] == 21


@pytest.mark.slow
def test_texts_in_windows():
    model, inputs = tiny_model(exit_layers=[1, 3]), tiny_batch(batch=3, tokens=12)
    inputs = {name: values.reshape(3, 2, 6) for name, values in inputs.items()}
    assert_agrees(model, Stacked().bind(model), inputs, windows=True)


@pytest.mark.slow
@pytest.mark.skipif(os.environ["HF_HUB_OFFLINE"] == "1", reason="needs a Hub: HF_HUB_OFFLINE=0 (HF_ENDPOINT: which)")
def test_real_weights():
    """all-MiniLM-L6-v2 with heads of random weights, on texts of two lengths."""
    torch.manual_seed(0)
    name = "sentence-transformers/all-MiniLM-L6-v2"
    model = MultiExitModel(build_encoder(name), num_labels=3, pooling="mean").eval()
    texts = ["A man plays a guitar on a stage, and somebody listens.", "It rains."]
    inputs = load_tokenizer(name)(texts, padding=True, return_tensors="pt")
    assert_agrees(model, policy_by_name("entropy")().bind(model), dict(inputs))
