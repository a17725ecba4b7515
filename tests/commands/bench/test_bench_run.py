"""`python -m mebert bench RUN`: the run's own texts, an accuracy that holds, and the time that it may take."""

import json
import re
import time
from pathlib import Path

import pytest
import torch

from mebert.cli.main import main
from mebert.commands.bench import texts
from mebert.commands.bench.bench_model import BenchModel
from mebert.commands.bench.command import BenchSettings
from mebert.data.loaders import SplitLoaders
from mebert.metrics.record_files import load_record
from mebert.storage.model_spec import ModelSpec

RUN = "runs/tiny/version_0"
SMALL = ["--samples", "16", "--rounds", "2", "--batch_sizes", "[4]", "--device", "cpu", "--out", "out"]
SMALL += ["--baselines", "[unsorted,sorted]", "--engines", "[shrink,refill]"]  # the quick ones without ONNX Runtime's


def bench(capsys, *words):
    """What `bench` prints, and its `bench.json`."""
    capsys.readouterr()
    assert main(["bench", *words, *SMALL]) == 0
    return capsys.readouterr().out, json.loads(Path("out/bench.json").read_text())


def set_threshold(threshold):
    """Make another threshold the default one."""
    with ModelSpec.change(f"{RUN}/model") as spec:
        spec.policy["init_args"]["threshold"] = threshold


def test_a_run_is_measured_on_its_own_texts_at_its_default_point(in_trained_run, capsys):
    record, about = load_record(f"{RUN}/outputs.safetensors")
    scores = record.scores["edr"][:-1].flatten()
    threshold = float(scores.sort().values[len(scores) // 2])
    set_threshold(threshold)
    printed, content = bench(capsys, RUN)
    lengths = record.lengths.tolist()
    found = re.search(r"texts +the run's own, test: 16 samples of [\d.]+ tokens on average \((\d+) to (\d+)\)", printed)
    assert min(lengths) <= int(found[1]) <= int(found[2]) <= max(lengths)
    assert {r["name"] for r in content["rows"]} == {"HF", "HF sorted", "plain", "shrink", "refill"}, "the quick grid"
    assert len({r["precision"] for r in content["rows"]}) == 1
    (one,) = content["accuracy"]
    exits = torch.where(record.scores["edr"][:-1] < threshold, 1, 0)
    taken = torch.cat([exits, torch.ones_like(exits[:1])]).argmax(0)
    right = [(record.logits[e, i].argmax() == record.labels[i]).item() for i, e in enumerate(taken.tolist())]
    full = (record.logits[-1].argmax(-1) == record.labels).double().mean()
    assert one["value"] == pytest.approx(sum(right) / len(right))
    assert one["drop"] == pytest.approx(float(full) - one["value"], abs=1e-6)
    assert one["interval"][0] <= one["drop"] <= one["interval"][1]
    assert (one["samples"], one["data"], one["metric"]) == (41, about["split"], "acc")
    assert re.search(r"acc [\d.]+, drop -?[\d.]+ \(95 %: -?[\d.]+ to -?[\d.]+\) on 41 rows of test", content["verdict"])
    assert f"python -m mebert bench {RUN} --thorough" in printed


def test_a_point_that_loses_too_much_does_not_pay_however_fast(in_trained_run, capsys):
    set_threshold(0.0)
    printed, content = bench(capsys, RUN)
    assert content["verdict"].startswith(
        "Early exit does not pay here at an accuracy that holds: the default operating point is the full depth (by "
    )
    assert "edr at " in content["verdict"], "and what the slowest stored point would give"
    assert f"python -m mebert calibrate {RUN} --max_drop 0.01 --use edr" in printed


def test_without_the_runs_texts_lengths_are_those_of_its_test(in_trained_run, capsys):
    lengths = load_record(f"{RUN}/outputs.safetensors")[0].lengths.tolist()
    Path(RUN, "config.yaml").unlink()
    set_threshold(0.9)
    printed, _ = bench(capsys, RUN)
    found = re.search(r"random tokens, lengths those of the run's last test \(the model is in no run; --texts", printed)
    assert found
    ends = re.search(r"16 samples of [\d.]+ tokens on average \((\d+) to\s+(\d+)\)", printed)
    assert {int(ends[1]), int(ends[2])} <= set(lengths)
    Path(RUN, "outputs.safetensors").unlink()
    printed, content = bench(capsys, RUN)
    assert "random tokens, lengths snli (the model is in no run; --texts or --task names others)" in printed
    assert all("validation data" in one["data"] for one in content["accuracy"]), "what is stored with the model"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [({"test": 1, "val": 2}, "test"), ({"test_matched": 1}, "test_matched"), ({"val_matched": 1}, "val_matched")],
)
def test_the_first_test_split_else_validation(names, wanted, monkeypatch):
    class Data(SplitLoaders):
        def setup(self, stage):
            self.splits = names
            for group in (self.test_names, self.validation_names):
                group[:] = [name for name in names if name.startswith(group[0][:3])] or group

    monkeypatch.setattr(texts, "run_data", lambda *_: Data(8, 8, True, None, 0, 0))
    assert texts._of_the_run(BenchSettings(model="x"), BenchModel("x", None, [], True, "x")) == (names[wanted], wanted)


def test_the_quick_measurement_keeps_its_budget(in_trained_run, capsys):
    start = time.perf_counter()
    printed, content = bench(capsys, RUN, "--budget", "1e-3")
    assert "Cut to the budget of 0.001 s: 2% of the texts (--budget or --thorough" in printed
    assert {len(r["seconds"]) for r in content["rows"]} == {1}, "no round begins after the budget is spent"
    assert {r["samples"] for r in content["rows"]} == {4}, "one batch"
    assert time.perf_counter() - start < 60
