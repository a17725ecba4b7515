"""`backend="auto"`: the faster of PyTorch and the export beside a model, by a short measurement."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from tiny import tiny_model

from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.data.tokenizers import load_tokenizer
from mebert.inference.auto_backend import AutoBackend, measure
from mebert.onnx.backend import OnnxBackend
from mebert.policies import Entropy
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import export_folder

RUN = "runs/tiny/version_0"
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
    wanted = [(one.label, one.exit) for one in found.torch(PAIRS)]
    assert [(one.label, one.exit) for one in found(PAIRS)] == wanted
    assert [(found(pair).label, found(pair).exit) for pair in PAIRS] == wanted
    assert found(PAIRS, engine="refill", batch_size=1)[0].label == wanted[0][0], "which the export has not"
    assert found.operating_point == found.torch.operating_point
    assert isinstance(EarlyExitClassifier.from_pretrained(f"{RUN}/exported", backend="auto"), OnnxBackend)

    assert main(["predict", RUN, "--pair", *PAIRS[0], "--backend", "auto", "--format", "csv"]) == 0
    assert wanted[0][0] in capsys.readouterr().out
    with ModelSpec.change(f"{RUN}/model") as spec:
        spec.policy["init_args"]["threshold"] = 0.123
    with pytest.warns(UserWarning, match="has other operating points; export it again: python -m mebert export"):
        other = EarlyExitClassifier.from_pretrained(RUN, "cpu", "float32", backend="auto")
    assert isinstance(other, EarlyExitClassifier)
    assert Path(RUN, "exported").is_dir()
