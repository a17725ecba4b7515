"""`backend="auto"`: the faster of PyTorch and the export beside a model, by a short measurement."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest
from tiny import tiny_model

from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.data.tokenizers import load_tokenizer
from mebert.inference.auto_backend import AutoBackend, measure
from mebert.onnx.backend import OnnxBackend
from mebert.onnx.up_to_date import what_changed
from mebert.policies import Entropy
from mebert.serving.model import ServedModel
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import export_folder

RUN = "runs/tiny/version_0"
LIBRARIES = {"mebert", "onnxruntime", "torch"}
PAIRS = [("anna likes dogs", "anna likes animals"), ("bob likes dogs", "anna likes cats")]


class Clock:
    """Time that passes only when a backend runs."""

    def __init__(self):
        self.now, self.runs = 0.0, []

    def __call__(self):
        return self.now

    def run(self, name, seconds, size):
        self.runs.append((name, size))
        self.now += seconds * size


@pytest.mark.parametrize(("seconds", "sizes"), [(0.001, [1, 8, 32]), (0.02, [1, 8]), (0.2, [1]), (5.0, [1])])
def test_no_size_is_begun_that_may_end_too_late(seconds, sizes):
    clock = Clock()
    found = measure([partial(clock.run, "one", seconds), partial(clock.run, "two", seconds / 2)], clock=clock)
    assert found == {size: pytest.approx([seconds * size, seconds * size / 2]) for size in sizes}
    assert clock.runs[:4] == [("one", 1), ("two", 1), ("one", 1), ("two", 1)], "in turn"
    assert clock.now < 0.8 or sizes == [1]


def test_without_an_export_it_is_pytorch(tokenizer_folder, tmp_path):
    folder = tmp_path / "model"
    tokenizer = load_tokenizer(tokenizer_folder)
    tiny_model("bert", num_labels=3).save_pretrained(folder, policy=Entropy(0.4))
    tokenizer.save_pretrained(folder)
    found = EarlyExitClassifier.from_pretrained(folder, "cpu", backend="auto")
    assert isinstance(found, EarlyExitClassifier)
    assert export_folder(folder) == folder / "exported", "of a model that is in no run"
    (tmp_path / "config.yaml").write_text("")
    assert export_folder(folder) == tmp_path / "exported", "in its run"
    assert export_folder("some/id") is None


@pytest.mark.slow
def test_each_call_goes_to_the_faster_one(in_trained_run, capsys):
    assert main(["export", RUN, "--samples", "8"]) == 0
    assert f"{RUN}/exported" in capsys.readouterr().out.replace("\n", "")
    found = EarlyExitClassifier.from_pretrained(RUN, "cpu", "float32", backend="auto")
    assert isinstance(found, AutoBackend)
    assert min(found.times) == 1
    found.times = {1: (2.0, 1.0), 2: (1.0, 2.0)}
    assert isinstance(found.for_batch(1), OnnxBackend)
    assert isinstance(found.for_batch(32), EarlyExitClassifier)
    assert found.taken == {1: ("onnx", "float32"), 2: ("torch", "float32")}
    assert str(found) == "onnx float32 at batch 1, torch float32 at 2"
    info = ServedModel(found, RUN).info
    assert (info.backend, info.precision, info.runs) == ("auto", "float32", f"auto: {found}")
    assert (info.by_batch, {*info.versions}) == ({1: "onnx float32", 2: "torch float32"}, LIBRARIES)
    wanted = [(one.label, one.exit) for one in found.torch(PAIRS)]
    assert [(one.label, one.exit) for one in found(PAIRS)] == wanted
    assert [(found(pair).label, found(pair).exit) for pair in PAIRS] == wanted
    assert found(PAIRS, engine="refill", batch_size=1)[0].label == wanted[0][0], "which the export has not"
    assert found.operating_point == found.torch.operating_point
    assert isinstance(EarlyExitClassifier.from_pretrained(f"{RUN}/exported", backend="auto"), OnnxBackend)

    for backend, words in (("auto", r" \((auto: (onnx|torch) float32 at batch 1.*)\)"), ("onnx", " on ONNX Runtime")):
        assert main(["predict", RUN, "--pair", *PAIRS[0], "--backend", backend, "--format", "csv"]) == 0
        printed = capsys.readouterr()
        assert wanted[0][0] in printed.out
        assert re.search(rf"in (float32|bfloat16).*{words}", printed.err)
    assert main(["export", RUN, "--samples", "8"]) == 0
    assert "it took the place of an older export" in " ".join(capsys.readouterr().out.split())
    changed(capsys)


def changed(capsys):
    """An export beside a model with other thresholds, or other weights, is told, and not used by `auto`."""
    weights = Path(RUN, "model/exits.safetensors")
    before = weights.read_bytes()
    weights.write_bytes(before.replace(b'"format":"pt"', b'"format":"np"'))
    with pytest.warns(UserWarning, match="has other weights than the model has now"):
        assert isinstance(EarlyExitClassifier.from_pretrained(f"{RUN}/model", backend="auto"), EarlyExitClassifier)
    weights.write_bytes(before)
    manifest = Path(RUN, "exported/manifest.json")
    with ModelSpec.change(f"{RUN}/model") as spec:
        longest, spec.max_length = spec.max_length, 7
    assert what_changed(manifest.parent, f"{RUN}/model") == "another length to which texts are cut"
    with ModelSpec.change(f"{RUN}/model") as spec:
        spec.max_length = longest
    assert what_changed(manifest.parent, f"{RUN}/model") is None
    content = json.loads(manifest.read_text())
    del content["model"]
    manifest.write_text(json.dumps(content))
    assert what_changed(manifest.parent, f"{RUN}/model") is None, "of an earlier mebert"
    with ModelSpec.change(f"{RUN}/model") as spec:
        spec.policy["init_args"]["threshold"] = 0.123
    with pytest.warns(
        UserWarning,
        match="has another policy or threshold than the model has now; .* mebert export runs/tiny/version_0$",
    ):
        other = EarlyExitClassifier.from_pretrained(RUN, "cpu", "float32", backend="auto")
    assert isinstance(other, EarlyExitClassifier)
    assert main(["calibrate", RUN, "--speedup", "1.7"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"--backend auto no longer uses it: python -m mebert export {RUN}" in printed
    with pytest.warns(UserWarning, match="backend onnx: .* has another policy or threshold than"):
        OnnxBackend(RUN)
    assert not Path(RUN, "model/.exits.json.lock").exists()
