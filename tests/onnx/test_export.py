"""`export` and its runner: PyTorch's answers on ONNX Runtime, and one line where a folder or a setting is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import write_rows

from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.errors import UserError
from mebert.onnx.backend import OnnxBackend
from mebert.onnx.runner import ExportError, OnnxClassifier
from mebert.onnx.single_graph import NAME, SingleGraph

RUN = "runs/tiny/version_0"
PAIRS = [("anna likes dogs", "anna likes animals"), ("bob likes dogs", "anna likes cats"), ("", "[SEP] anna")]


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
        ("manifest.json", lambda file: edit(file, labels=None), "is damaged: it has no labels; export the model anew"),
        ("manifest.json", lambda file: edit(file, stride=None), "is damaged: it has no stride; export the model anew"),
        (
            "manifest.json",
            lambda file: edit(file, policy={"name": "edr", "threshold": -1}),
            "threshold must be at least 0, got -1",
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
