"""Commands under unusual streams, widths and switches of Python: they work, or say so in one line."""

import os
import subprocess
import sys

import pytest

RUN = "runs/tiny/version_0"
COMPARE = ["compare", RUN, RUN]
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
        ([], COMPARE, "", {"COLUMNS": "0"}, {0}),
        ([], COMPARE, "| head -n 1", {}, {0, 1, 141}),
        ([], COMPARE, ">&-", {}, {0}),
        ([], ["inspect", RUN, "--text", "a \U0001f642 dog"], "", {"PYTHONIOENCODING": "ascii"}, {0}),
        (["-W", "error"], PREDICT, "", {}, {0}),
        (["-OO"], COMPARE, "", {}, {0}),
        (["-OO"], PREDICT, "", {}, {2}),
        ([], ["predict", "--model", RUN], "", {}, {2}),
    ],
    ids=["a width of 0", "head", "no standard output", "ascii", "-W error", "-OO", "-OO predict", "--model RUN"],
)
def test_one_line_or_none(switches, command, after, environment, status, in_trained_run):
    done = python(*switches, "-m", "mebert", *command, shell_after=after, **environment)
    assert done.returncode in status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("mebert: error: ")]
    assert len(told) == (2 in status)
    if "--model" in command:
        assert f"--config {RUN}/config.yaml --ckpt_path {RUN}/checkpoints/best.ckpt" in told[0]
    if "-OO" in switches and told:
        assert "take python -O" in told[0]


def test_a_logger_whose_package_is_missing(in_trained_run, monkeypatch, capsys):
    import lightning.pytorch.loggers.tensorboard as module
    from runs import run

    if not module._TENSORBOARD_AVAILABLE and not module._TENSORBOARDX_AVAILABLE:
        assert (
            run(
                "fit",
                "--config",
                "tiny.yaml",
                "--trainer.logger",
                "TensorBoardLogger",
                "--trainer.logger.save_dir",
                "x",
            )
            == 2
        )
        assert "TensorBoardLogger: Neither `tensorboard` nor `tensorboardX` is available" in capsys.readouterr().err
