"""SIGTERM, Ctrl-C and SLURM's SIGUSR1: the step is finished, last.ckpt written, and one line says how to go on."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from resume.ends import assert_ends_as_whole, batches_of, command_in, go_on, prepare, pull, stopped
from runs import QUIET, run

import mebert.cli.main

TERM, INT, USR1 = 128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGUSR1


@pytest.mark.parametrize(
    ("at", "signum", "goes_on_at"),
    [
        ([1, 4], signal.SIGTERM, [1, 5]),
        ([0, 1], signal.SIGINT, [0, 2]),
        (["val", 0, 1], signal.SIGTERM, [1, 0]),
        # No checkpoint between the epoch's last batch and its validation.
        pytest.param([0, 6], signal.SIGTERM, [1, 0], marks=pytest.mark.slow),
    ],
    ids=["in an epoch", "Ctrl-C", "in a validation", "an epoch's last step"],
)
def test_the_step_is_finished_and_nothing_is_done_twice(tmp_path, monkeypatch, capsys, whole, at, signum, goes_on_at):
    before = signal.getsignal(signum)
    pull(monkeypatch, at, signum)
    assert stopped(*prepare(tmp_path), "--experiment", "cut") == 128 + signum
    said = capsys.readouterr().err
    assert f"mebert: stopped by {signum.name} (step " in said
    assert "Traceback" not in said
    assert signal.getsignal(signum) == before
    assert go_on(command_in(said), "rest.jsonl") == goes_on_at
    done = batches_of("cut.jsonl") + batches_of("rest.jsonl")
    assert done == [[epoch, batch] for epoch in range(2) for batch in range(7)]
    assert_ends_as_whole("cut", whole)


def test_a_step_of_several_batches_is_finished(tmp_path, monkeypatch, capsys):
    pull(monkeypatch, [0, 3], signal.SIGTERM)
    fit = prepare(tmp_path, trainer={"accumulate_grad_batches": 3})
    assert stopped(*fit, "--experiment", "cut") == TERM
    assert batches_of("cut.jsonl")[-1] == [0, 5]
    assert "(step 2)" in capsys.readouterr().err


@pytest.mark.slow
def test_stopped_at_once_twice_between_the_epochs(tmp_path, monkeypatch, capsys, whole):
    """A resumed run writes a file of its own before its first batch: it must say what the one before it said."""
    pull(monkeypatch, [1, 0], signal.SIGINT, times=2)
    assert stopped(*prepare(tmp_path), "--experiment", "cut") == INT
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert stopped(*command_in(said), *QUIET) == INT
    words = command_in(capsys.readouterr().err)
    assert words[-1] == "runs/cut/version_1/checkpoints/last.ckpt"
    assert go_on(words, "rest.jsonl") == [1, 0]
    assert_ends_as_whole("cut", whole)


def test_before_the_first_checkpoint_it_says_so(tmp_path, monkeypatch, capsys):
    pull(monkeypatch, [0, 0], signal.SIGINT, times=2)
    assert stopped(*prepare(tmp_path), "--experiment", "cut") == INT
    assert "stopped by SIGINT; there is no checkpoint yet" in capsys.readouterr().err


@pytest.mark.parametrize("place", [1, "end"], ids=["in a batch", "behind the last one"])
@pytest.mark.parametrize("command", [pytest.param("validate", marks=pytest.mark.slow), "test", "predict"])
def test_an_evaluation_ends_after_its_batch(tmp_path, monkeypatch, capsys, whole, command, place):
    before = signal.getsignal(signal.SIGTERM)
    fit = prepare(tmp_path)
    Path("out.csv").write_text("an older table")
    given = [command, *fit[1:], "--ckpt_path", str(whole / "runs/whole/version_0/checkpoints/best.ckpt")]
    given += ["--experiment", "cut", *(["--out", "out.csv"] if command == "predict" else [])]
    pull(monkeypatch, [command, place], signal.SIGTERM)
    assert stopped(*given) == TERM
    assert "mebert: stopped by SIGTERM\n" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before
    seen = [line[2] for line in notes_of("cut.jsonl")]
    assert seen == ([0, 1] if place == 1 else [0, 1, 2, "end"]), "no batch began after the signal"
    assert Path("out.csv").read_text() == "an older table"
    assert not list(Path("runs/cut").glob("*/evaluation.json"))
    monkeypatch.delenv("PULL_AT")
    assert run(*given) == 0, "no claim stays"
    assert not list(Path().glob("*.shards"))


@pytest.mark.slow
def test_the_test_after_a_training_ends_after_its_batch(tmp_path, monkeypatch, capsys):
    fit = [*prepare(tmp_path, trainer={"max_epochs": 1}), "--experiment", "cut", "--test_after_fit", "true"]
    pull(monkeypatch, ["test", 0], signal.SIGTERM)
    assert stopped(*fit) == TERM
    said = capsys.readouterr().err
    assert notes_of("cut.jsonl")[-1] == ["evaluated", "test", 0]
    monkeypatch.delenv("PULL_AT")
    monkeypatch.setenv("NOTES", "rest.jsonl")
    assert run(*command_in(said)) == 0
    assert not batches_of("rest.jsonl"), "nothing is trained twice"
    assert [p.parent.name for p in Path("runs/cut").glob("*/evaluation.json")] == ["version_1"]
    assert Path("runs/cut/version_1/model/exits.json").is_file()


def notes_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_ctrl_c_outside_of_training(monkeypatch, capsys):
    def interrupted(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(mebert.cli.main, "_run", interrupted)
    assert mebert.cli.main.main(["compare"]) == 130
    assert capsys.readouterr().err == "mebert: stopped\n"


# ---- SLURM -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The environment of `srun` with one task, and a `scontrol` that notes what it is called with."""
    tool = tmp_path / "bin" / "scontrol"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.txt\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    settings = {"NTASKS": 1, "JOB_ID": 4711, "JOB_NAME": "train", "PROCID": 0, "LOCALID": 0, "NODEID": 0, "NNODES": 1}
    for name, value in settings.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("SLURM_NODELIST", "localhost")
    return tmp_path / "scontrol.txt"


@pytest.mark.slow
def test_a_job_at_its_end_is_put_back_and_goes_on(tmp_path, monkeypatch, capsys, whole, slurm):
    fit = [*prepare(tmp_path), "--experiment", "cut"]
    pull(monkeypatch, [1, 3], signal.SIGUSR1)
    assert stopped(*fit) == USR1
    assert slurm.read_text() == "requeue 4711\n"
    assert "job 4711 is in the queue again" in capsys.readouterr().err
    # SLURM starts the same command again.
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert go_on(fit, "rest.jsonl") == [1, 4]
    assert_ends_as_whole("cut", whole)
    # Another command of the same job's script begins at its own beginning.
    assert go_on([*fit, "--seed_everything", "1"], "other.jsonl") == [0, 0]


@pytest.mark.slow
def test_a_queue_that_does_not_answer(tmp_path, monkeypatch, capsys, slurm):
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    pull(monkeypatch, [0, 3], signal.SIGUSR1)
    assert stopped(*prepare(tmp_path), "--experiment", "cut") == USR1
    assert "`scontrol requeue 4711` failed: Access denied" in capsys.readouterr().err
    assert len(list(Path("runs/cut").glob("*/checkpoints/last.ckpt"))) == 1


# ---- real processes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_process_that_is_told_to_end(tmp_path, monkeypatch, processes):
    """SIGTERM to one process of two ends both at the same step."""
    trainer = {"max_epochs": 400, "devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
    fit = [*prepare(tmp_path, trainer=trainer), "--experiment", "cut"]
    monkeypatch.setenv("NOTES", "cut.jsonl")
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    with subprocess.Popen(
        [sys.executable, "-m", "mebert", *fit, *QUIET],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        until = time.monotonic() + 120
        while time.monotonic() < until and not list(Path("runs").glob("cut/*/checkpoints/last.ckpt")):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == TERM, said
    assert "Traceback" not in said
    assert said.count("stopped by SIGTERM") == 1
    assert Path(command_in(said)[-1]).is_file()
