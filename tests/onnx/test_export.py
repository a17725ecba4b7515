"""`export` and its runner: PyTorch's answers on ONNX Runtime, and one line where a folder or a setting is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from runs import write_rows
from tiny import tiny_batch, tiny_model

from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.data.tokenizers import load_tokenizer
from mebert.errors import UserError
from mebert.models import SUPPORTED_FAMILIES, MultiExitModel, build_encoder
from mebert.models.encoder import EncoderAdapter
from mebert.models.prototypes import PrototypeBank
from mebert.models.windows import flat_windows
from mebert.onnx.asked import with_question
from mebert.onnx.backend import OnnxBackend
from mebert.onnx.graphs import embedding_graph, exit_graphs
from mebert.onnx.runner import ExportError, OnnxClassifier, session_options
from mebert.onnx.single_graph import NAME, SingleGraph, single_graph
from mebert.onnx.whole_graph import whole_graph
from mebert.policies import ExitPolicy, PatientEntropy, Stacked, policy_by_name
from mebert.storage.trusted_classes import subclasses_of

RUN = "runs/tiny/version_0"
PAIRS = [("anna likes dogs", "anna likes animals"), ("bob likes dogs", "anna likes cats"), ("", "[SEP] anna")]
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
def agree(model, policy, inputs, windows=False):
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
    agree(model, Stacked().bind(model), tiny_batch(batch=4, tokens=11))
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
    agree(model, policy_by_name("entropy")().bind(model), tiny_batch())
    assert not next(exit_graphs(model, policy_by_name("entropy")().bind(model), False)).fused


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "max", "attention", "fastbert"])
def test_every_pooling(pooling):
    model = tiny_model(pooling=pooling)
    agree(model, policy_by_name("entropy")().bind(model), tiny_batch())


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
    agree(model, policy_by_name(name)().bind(model), tiny_batch())


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
    agree(model, PatientEntropy(average=True).bind(model), tiny_batch())


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
    agree(model, Stacked().bind(model), inputs, windows=True)


def said_by_the_runner(capsys):
    """The folder's own program: what `predict --text` prints; one line for a mistake; a warning for another kind."""

    def said(*words, folder="exported"):
        words = [sys.executable, "exported/runner.py", folder, *words]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.stderr.count("\n") <= 1
        return done.returncode, done.stdout, done.stderr

    both = [word for pair in PAIRS[:2] for word in ("--pair", *pair)]
    assert main(["predict", "exported", "--pair", *PAIRS[0], *PAIRS[1]]) == 0
    assert said(*both) == (0, capsys.readouterr().out, "")
    with pytest.warns(UserWarning, match="was trained on pairs of texts, and the inputs are none"):
        EarlyExitClassifier.from_pretrained("exported", backend="onnx")("A fine film.")
    status, out, err = said("--speedup", "1", "A fine film.")
    assert (status, out.count("\n"), err.startswith("warning: the model was trained on pairs")) == (0, 1, True)
    status, _, err = said("a", "--speedup", "17")
    assert (status, err.split(" (")[0]) == (2, "runner.py: error: speedup 17 is not stored with this model")
    assert "nowhere is no exported model" in said("a", folder="nowhere")[2]


@pytest.mark.slow
@pytest.mark.skipif(os.environ["HF_HUB_OFFLINE"] == "1", reason="needs a Hub: HF_HUB_OFFLINE=0 (HF_ENDPOINT: which)")
def test_real_weights():
    """all-MiniLM-L6-v2 with heads of random weights, on texts of two lengths."""
    torch.manual_seed(0)
    name = "sentence-transformers/all-MiniLM-L6-v2"
    model = MultiExitModel(build_encoder(name), num_labels=3, pooling="mean").eval()
    texts = ["A man plays a guitar on a stage, and somebody listens.", "It rains."]
    inputs = load_tokenizer(name)(texts, padding=True, return_tensors="pt")
    agree(model, policy_by_name("entropy")().bind(model), dict(inputs))


WITHOUT = """
import sys
from runner import OnnxClassifier
pairs = {pairs!r}
print([(p.label, p.exit) for p in OnnxClassifier(".")(pairs)])
heavy = [name for name in ("torch", "transformers", "pydantic", "mebert") if name in sys.modules]
assert not heavy, heavy
"""


def test_from_a_run_to_answers_without_pytorch(in_trained_run, capsys):
    assert main(["export", RUN, "--out", "exported", "--samples", "20", "--single_graph"]) == 0
    printed = capsys.readouterr().out
    assert "on 20 of the run's validation rows: logits within" in printed
    assert "the same exits" in printed
    assert 'exported/runner.py exported --pair "A text." "Another."' in " ".join(printed.split())
    ours = EarlyExitClassifier.from_pretrained(f"{RUN}/model", precision="float32")
    theirs = EarlyExitClassifier.from_pretrained("exported", backend="onnx")
    for settings in ({}, {"threshold": 0.9}, {"speedup": 1}, {"batch_size": 1}, {"max_length": 4}):
        for one, other in zip(ours(PAIRS, **settings), theirs(PAIRS, **settings), strict=True):
            assert (one.label, one.exit) == (other.label, other.exit), settings
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert theirs(PAIRS[0]).label == ours(PAIRS[0]).label
    assert [p.label for p in theirs(iter(PAIRS), window=2)] == [p.label for p in ours(PAIRS)]
    assert theirs.operating_point == ours.operating_point
    assert theirs.label_names == ours.label_names
    alone_as_all(ours, theirs.runner)
    words = [sys.executable, "-c", WITHOUT.format(pairs=PAIRS)]
    done = subprocess.run(words, cwd="exported", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([(p.label, p.exit) for p in ours(PAIRS)])

    shutil.copytree("exported", f"{RUN}/exported")
    rows = [{"premise": b, "hypothesis": a, "label": "neutral"} for a, b in PAIRS[:2]]
    write_rows(Path("own.csv"), rows)
    by_name(capsys, *(("exported",), (RUN, "--backend", "onnx"), (RUN, "--backend", "auto", "--precision", "float32")))
    said_by_the_runner(capsys)
    refusals(capsys)


def by_name(capsys, *models):
    """A file's columns are found by the names of the training, in its order, whatever runs the model."""
    exits, points = [], []
    for words in ([RUN, "--precision", "float32"], *models):
        assert main(["predict", words[0], "own.csv", *words[1:]]) == 0
        printed = capsys.readouterr()
        header, *rows = printed.out.splitlines()
        assert header.startswith("index,hypothesis,premise,label,"), words
        assert [row.split(",")[1:3] for row in rows] == [[*pair] for pair in PAIRS[:2]]
        exits.append([row.rsplit(",")[-1] for row in rows])
        points.append(re.search("column 'label': .*", printed.err)[0])
    assert exits == exits[:1] * len(exits)
    assert points == points[:1] * len(points)
    shutil.rmtree(f"{RUN}/exported")


def alone_as_all(ours, runner):
    """The graph beside the others gives their answers, of one text a call."""
    stored = runner.manifest["single_graph"]
    assert stored["inputs"] == ["input_ids", "attention_mask", "token_type_ids", "threshold"]
    assert stored["outputs"] == ["probabilities", "label", "exit", "logits"]
    run = SingleGraph(Path("exported", stored["file"]), runner.manifest["pad_token_id"])
    texts = runner.encode(PAIRS)
    for text, wanted in zip(texts, ours(PAIRS), strict=True):
        found = run.answer(text, runner.threshold_of())
        assert (found["label"], found["exit"]) == (ours.label_names.index(wanted.label), wanted.exit)
        assert found["probabilities"].tolist() == pytest.approx(list(wanted.probabilities.values()), abs=1e-4)
    with pytest.raises(Exception, match="invalid dimensions"):
        run.answer([texts[0][0], texts[1][0]], 0.5)


def edit(file, **values):
    """Change values of a manifest; None takes one out."""
    content = json.loads(file.read_text()) | values
    for name in [name for name, value in values.items() if value is None]:
        del content[name]
    file.write_text(json.dumps(content))


def refusals(capsys):
    """What is wrong with a folder or a call, in one line each."""

    def told(*words):
        assert main(list(words)) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    one = ["--pair", *PAIRS[0]]
    assert "python -m mebert export" in told("predict", f"{RUN}/model", *one, "--backend", "onnx")
    assert "which runs on ONNX Runtime alone" in told("predict", "exported", *one, "--backend", "torch")
    write_rows(Path("one.csv"), [{"text": "a"}])
    assert "one.csv has the column 'text' alone, and the model reads pairs" in told("predict", "exported", "one.csv")
    assert "has its own; leave it out" in told("predict", "exported", *one, "--precision", "int8")
    assert "has shrink alone" in told("predict", "exported", *one, "--engine", "refill")
    assert "is not in this export" in told("predict", "exported", *one, "--policy", "patience", "--threshold", "0.5")
    assert "is not stored with this model" in told("predict", "exported", *one, "--speedup", "7")
    assert "is a folder with other files" in told("export", RUN, "--out", "runs/tiny")
    for name, change, words in (
        ("exit_1.onnx", lambda file: file.write_bytes(file.read_bytes()[:-1]), "is damaged (its checksum"),
        ("exit_2.onnx", Path.unlink, "is missing; export the model anew"),
        ("manifest.json", lambda file: file.write_text("{"), "is damaged (JSONDecodeError)"),
        ("manifest.json", lambda file: file.write_text(json.dumps({"format": 9, "files": {}})), "has format 9"),
        (
            "manifest.json",
            lambda file: edit(file, exits=["exit_2.onnx", "exit_1.onnx", "exit_3.onnx"]),
            "exits and files",
        ),
        ("manifest.json", lambda file: edit(file, exits=["exit_1.onnx", "exit_2.onnx"]), "exits and files do not fit"),
        ("manifest.json", lambda file: edit(file, files={}), "exits and files do not fit each other"),
        ("manifest.json", lambda file: edit(file, labels=["a", "b"]), "2 labels, the graphs have others"),
        ("manifest.json", lambda file: edit(file, labels=None), "other: KeyError: 'labels'; export the model anew"),
        ("manifest.json", lambda file: edit(file, stride=None), "other: KeyError: 'stride'; export the model anew"),
        (
            "manifest.json",
            lambda file: edit(file, policy={"name": "edr", "threshold": -1}),
            "threshold -1 is no number",
        ),
    ):
        shutil.copytree("exported", "other")
        change(Path("other", name))
        assert words in told("predict", "other", *one)
        shutil.rmtree("other")


@pytest.mark.slow
def test_int8_is_measured_and_refused_where_it_costs_too_much(in_trained_run, capsys):
    assert main(["export", RUN, "--out", "small", "--precision", "int8", "--max_drop", "0.9", "--single_graph"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"model.onnx +a text a call, in any language: logits within .*; acc \d\.\d{4} \(PyTorch", printed)
    both = OnnxBackend("small").runner, SingleGraph(Path("small", NAME), 0)
    for text in both[0].encode(PAIRS):
        for limit in (0.0, 0.5, 9.0):
            (chained, exits), (nested_in, taken) = (one.run([text], limit) for one in both)
            np.testing.assert_allclose(nested_in, chained, atol=1e-5)
            assert taken == exits
    assert main(["export", RUN, "--out", "less", "--precision", "int8", "--max_drop", "0"]) in (0, 2)
    printed = capsys.readouterr()
    assert ("more than max_drop 0" in printed.err) != ("Exported:" in printed.out)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"speedup": 2, "threshold": 0.1}, "were both given"),
        ({"threshold": "low"}, r"threshold must be in \[0, 1\], or a list of 2, got 'low'"),
        ({"threshold": 2}, r"threshold must be in \[0, 1\]"),
        ({"threshold": [float("nan")] * 2}, "got .nan, nan"),
        ({"threshold": ["x", "y"]}, "threshold must be in"),
        ({"threshold": [-1, 0.5]}, "threshold must be in"),
        ({"threshold": [0.5]}, "or a list of 2"),
        ({"window": 0}, "window must be a whole number"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"max_length": 10_000}, "max_length must be at most"),
    ],
)
def test_a_call_with_a_wrong_setting(settings, words):
    classify = object.__new__(OnnxClassifier)
    classify.manifest = {"exits": ["exit_1.onnx", "exit_2.onnx", "exit_3.onnx"], "num_texts": None}
    classify.manifest |= {"max_length": 16, "longest": 64, "policy": {"threshold": 0.5}}
    classify.manifest |= {"operating_points": {}, "max_drops": {}}
    with pytest.raises(ExportError, match=words):
        classify(["a"], **settings)
    assert classify.threshold_of(np.float32(0.5)) == 0.5
    with pytest.raises(ExportError, match="input 2 is 'c'; give texts, or pairs of texts"):
        classify([("a", "b"), "c"], batch_size=np.int64(2))


def test_an_export_needs_onnxruntime(tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "mebert.onnx.runner", None)
    with pytest.raises(UserError, match=r"pip install 'mebert\[onnx\]'"):
        OnnxBackend(tmp_path)
