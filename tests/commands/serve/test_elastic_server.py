"""The real server with a target: answers become faster under load, and slower again without."""

import json
import shutil
import subprocess
import sys
import time

import pytest
from served import Served

from mebert.commands.serve.command import serve
from mebert.errors import UserError

PAIR = ["anna likes dogs", "anna likes animals"]


def test_arguments():
    with pytest.raises(UserError, match=r"max_drop 0\.02 is for an elastic server: give target_p99_ms"):
        serve("run", max_drop=0.02)
    for wrong in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(UserError, match="target_p99_ms must be"):
            serve("run", target_p99_ms=wrong)


@pytest.fixture(scope="module")
def run(trained_run):
    return trained_run / "runs" / "tiny" / "version_0"


@pytest.mark.slow
def test_answers_are_faster_under_load_and_at_full_depth_without(run, tmp_path):
    """No request of this machine takes less than 0.2 ms: every one is load."""
    with Served(run, "--target_p99_ms", "0.2", "--max_drop", "0.01", log=tmp_path / "log.txt") as server:
        assert "; p99 of 0.2 ms by full depth to " in server.said.splitlines()[0]
        assert server.metric('mebert_operating_point{point="speedup 1"}') == 1
        answers = [server.send({"pair": PAIR})[1] for _ in range(20)]
        point = answers[-1]["operating_point"]
        assert point["expected"]["speedup"] > 1
        assert point["expected"]["drop"] <= 0.01
        assert answers[-1]["exit"] < 3
        assert server.metric(f'mebert_operating_point{{point="{point["name"]}"}}') == 1
        assert server.send({"pair": PAIR, "speedup": 1})[1]["exit"] == 3, "who names a speed gets it"
        end = time.monotonic() + 60
        while server.metric('mebert_operating_point{point="speedup 1"}') != 1:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert server.send({"pair": PAIR})[1]["exit"] == 3
        for name in ("speedup 1", point["name"]):
            assert server.metric(f'mebert_operating_point_seconds_total{{point="{name}"}}') > 0


@pytest.mark.slow
def test_a_model_without_operating_points_is_refused_in_one_line(run, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(run / "model", model)
    spec = json.loads((model / "exits.json").read_text(encoding="utf-8"))
    for key in ("operating_points", "max_drops", "guarantees", "expected"):
        spec.pop(key, None)
    (model / "exits.json").write_text(json.dumps(spec), encoding="utf-8")
    command = [sys.executable, "-m", "mebert", "serve", str(model), "--target_p99_ms", "50"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    (line,) = found.stderr.strip().splitlines()
    assert f"python -m mebert calibrate {model} --speedup [1.5,2,3,4]" in line
