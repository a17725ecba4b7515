"""The model behind a server: batches of requests at different speeds, on PyTorch and on ONNX Runtime."""

import json
import shutil
import subprocess
import sys

import pytest

from mebert.cli.main import main
from mebert.errors import UserError
from mebert.inference.classifier import EarlyExitClassifier
from mebert.serving.model import ServedModel
from mebert.serving.model_info import Answered
from mebert.serving.schema import PredictRequest, Refused, Speed

PAIRS = [("anna likes dogs", "anna likes animals"), ("bob likes dogs", "anna likes cats"), ("", "[SEP] anna")]


@pytest.fixture(scope="module")
def run(trained_run):
    return trained_run / "runs" / "tiny" / "version_0"


@pytest.fixture(scope="module")
def served(run):
    return ServedModel.open(run, precision="float32", batch_size=4)


def content(answer) -> dict:
    assert isinstance(answer, Answered), answer
    return json.loads(answer.json)


def test_every_request_has_its_own_speed_and_those_alike_share_a_batch(served, run):
    asked = [{}, {"speedup": 2}, {"speedup": 1}, {}, {"threshold": 0.9}]
    requests = [PredictRequest(pair=PAIRS[i % 3], **speed) for i, speed in enumerate(asked)]
    requests.append(PredictRequest(texts=PAIRS, speedup=2))
    found = served.answer(requests)
    classify = EarlyExitClassifier.from_pretrained(run, precision="float32")
    for i, (speed, answer) in enumerate(zip(asked, found, strict=False)):
        own, one = content(answer), classify(PAIRS[i % 3], **speed)
        assert (own["label"], own["exit"]) == (one.label, one.exit)
        assert own["probabilities"] == pytest.approx(one.probabilities, abs=1e-5)
        assert own["operating_point"]["chosen_by"] == classify.point_of(**speed).chosen_by
    assert [one.point for one in found] == ["default", "speedup 2", "speedup 1", "default", "threshold", "speedup 2"]
    assert [one.batch for one in found] == [2, 4, 1, 0, 1, 0]
    listed = content(found[-1])
    assert [one["exit"] for one in listed["predictions"]] == list(found[-1].exits)
    assert listed["operating_point"]["expected"]["metric"] == "acc"
    assert listed["operating_point"]["expected"]["drop"] is not None


def test_a_request_at_fault_leaves_the_others_alone(served, monkeypatch):
    good = PredictRequest(pair=PAIRS[0])
    wrong = [
        PredictRequest(pair=PAIRS[0], speedup=99),
        PredictRequest(text="alone"),
        PredictRequest(texts=["a", PAIRS[0]]),
    ]
    wrong.append(PredictRequest(pair=PAIRS[0], threshold=[0.1]))
    first, *refused, last = served.answer([good, *wrong, good])
    assert content(first) == content(last)
    assert [(one.status, one.field) for one in refused if isinstance(one, Refused)] == [
        *[(422, "speedup"), (422, "text"), (422, "texts.0"), (422, "threshold")]
    ]
    assert "stored: 1.2, 1.5, 2" in str(refused[0])
    usual = served.classify

    class Breaks:
        def __getattr__(self, name):
            return getattr(usual, name)

        def __call__(self, texts, **settings):
            if ("bob", "") in texts:
                raise RuntimeError("out of memory")
            return usual(texts, **settings)

    monkeypatch.setattr(served, "classify", Breaks())
    first, broken, last = served.answer([good, PredictRequest(pair=("bob", "")), good])
    assert content(first) == content(last)
    assert isinstance(broken, RuntimeError)


def test_requests_without_a_speed_take_the_default_that_the_server_gives(served):
    plain, own = served.answer(
        [PredictRequest(pair=PAIRS[0]), PredictRequest(pair=PAIRS[0], speedup=1)], Speed(speedup=2)
    )
    assert (plain.point, own.point) == ("speedup 2", "speedup 1")
    names = [point.name for point in served.info.operating_points]
    assert names[:2] == ["default", "speedup 1"]
    assert "speedup 1.5" in names
    assert all(served.point(point.speed).threshold == point.threshold for point in served.points)


@pytest.mark.slow
def test_an_export_is_served_without_pytorch(run, tmp_path, served):
    assert main(["export", str(run), "--out", str(tmp_path / "exported")]) == 0
    program = (
        "import sys; from mebert.serving.model import ServedModel; from mebert.serving.schema import PredictRequest\n"
        "model = ServedModel.open(sys.argv[1], threads=1)\n"
        "request = PredictRequest(pair=('anna likes dogs', 'anna likes animals'), speedup=2)\n"
        "print(model.answer([request])[0].json.decode())\n"
        "print(model.info.model_dump_json()); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "exported")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer, info, torch = done.stdout.splitlines()
    assert torch == "False"
    (own,) = served.answer([PredictRequest(pair=PAIRS[0], speedup=2)])
    theirs = json.loads(answer)
    assert theirs["operating_point"] == content(own)["operating_point"]
    assert theirs["probabilities"] == pytest.approx(content(own)["probabilities"], abs=1e-4)
    assert json.loads(info)["operating_points"] == [point.model_dump(mode="json") for point in served.points]
    with pytest.raises(UserError, match="precision int8 is not for an export"):
        ServedModel.open(tmp_path / "exported", precision="int8")


@pytest.mark.slow
def test_a_run_with_its_export_is_served_by_the_faster_of_both(run, monkeypatch):
    monkeypatch.chdir(run.parents[2])
    assert main(["export", "runs/tiny/version_0", "--samples", "8"]) == 0
    try:
        both = ServedModel.open("runs/tiny/version_0", precision="float32", batch_size=4)
        assert both.info.backend == "auto"
        requests = [PredictRequest(pair=pair, **speed) for pair in PAIRS for speed in ({}, {"speedup": 2})]
        wanted = [content(one) for one in ServedModel.open(run, backend="torch", precision="float32").answer(requests)]
        for times in ({1: (2.0, 1.0)}, {1: (1.0, 2.0)}):  # once the export, once PyTorch
            both.classify.times = times
            for own, one in zip(both.answer(requests), wanted, strict=True):
                found = content(own)
                assert (found["label"], found["exit"]) == (one["label"], one["exit"])
                assert found["operating_point"] == one["operating_point"]
    finally:
        shutil.rmtree("runs/tiny/version_0/exported")
