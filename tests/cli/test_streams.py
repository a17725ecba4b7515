"""Commands under unusual streams, widths and switches of Python: they work, or say so in one line."""

import io
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from runs import run

from mebert.cli.main import main

RUN = "runs/tiny/version_0"
COMPARE = ["compare", RUN, RUN]
EMOJI = ["inspect", RUN, "--text", "a \U0001f642 dog"]
PREDICT = ["predict", "--config", f"{RUN}/config.yaml", "--ckpt_path", f"{RUN}/checkpoints/best.ckpt", "--out", "o.csv"]


def python(*words, shell_after="", **environment):
    """`python ... -m mebert ...` in a shell, whose pipe or redirection comes after it."""
    more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment}
    command = f'set -o pipefail; "$0" "$@" {shell_after}'
    given = ["bash", "-c", command, sys.executable, *words]
    return subprocess.run(given, env={**os.environ, **more}, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize(
    ("switches", "command", "after", "environment", "status"),
    [
        ([], ["--help"], "| true", {}, 141),  # as of other tools; `head` would have to be quick
        pytest.param([], COMPARE, "| true", {}, 141, marks=pytest.mark.slow),
        pytest.param([], COMPARE, "", {"COLUMNS": "0"}, 0, marks=pytest.mark.slow),
        pytest.param([], COMPARE, ">&-", {}, 0, marks=pytest.mark.slow),
        pytest.param([], EMOJI, "", {"PYTHONIOENCODING": "ascii"}, 0, marks=pytest.mark.slow),
        pytest.param(["-W", "error"], PREDICT, "", {}, 0, marks=pytest.mark.slow),
        pytest.param(["-OO"], COMPARE, "", {}, 0, marks=pytest.mark.slow),
        pytest.param(["-OO"], PREDICT, "", {}, 2, marks=pytest.mark.slow),
    ],
    ids=[
        "closed pipe of help",
        "closed pipe",
        "a width of 0",
        "no standard output",
        "ascii",
        "-W error",
        "-OO",
        "-OO predict",
    ],
)
def test_one_line_or_none(switches, command, after, environment, status, in_trained_run):
    done = python(*switches, "-m", "mebert", *command, shell_after=after, **environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("mebert: error: ")]
    assert len(told) == (status == 2)
    if status == 141:
        assert done.stderr == ""
    if told:
        assert "take python -O" in told[0]


def test_streams_of_this_process(in_trained_run, monkeypatch, capsys):
    """What the processes above show, as far as one process can."""
    monkeypatch.setenv("COLUMNS", "0")
    assert main(COMPARE) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) > 20
    for stream in (None, io.TextIOWrapper(io.BytesIO(), "ascii")):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            assert main(EMOJI) == 0
            sys.stdout.flush()
    assert b"\\U0001f642" in stream.buffer.getvalue()


def test_a_pipe_that_nobody_reads(in_trained_run, monkeypatch):
    reads, writes = os.pipe()
    os.close(reads)
    before = os.dup(1)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", open(writes, "w"))  # noqa: SIM115
            assert main(COMPARE) == 141
    finally:
        os.dup2(before, 1)
        os.close(before)


def test_a_run_in_the_place_of_a_class(in_trained_run, capsys):
    assert run("predict", "--model", RUN) == 2
    assert f"python -m mebert predict {RUN} my.csv" in capsys.readouterr().err


@pytest.mark.skipif(any(map(find_spec, ("tensorboard", "tensorboardX"))), reason="it is installed")
def test_a_logger_whose_package_is_missing(in_trained_run, capsys):
    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "x"]
    assert run("fit", "--config", "tiny.yaml", *logger) == 2
    assert "TensorBoardLogger: Neither `tensorboard` nor `tensorboardX` is available" in capsys.readouterr().err
