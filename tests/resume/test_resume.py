"""A training that was stopped anywhere and resumed ends as the uninterrupted one, under all settings of the trainer."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from resume.ends import assert_ends_as_whole, batches_of, prepare
from runs import QUIET, run, run_process


def fit(monkeypatch, folder, notes, *more, snapshots=(), **sections):
    """Train in this process; returns its batches."""
    monkeypatch.setenv("SNAPSHOTS", json.dumps(snapshots))
    monkeypatch.setenv("NOTES", notes)
    assert run(*prepare(folder, **sections), *more) == 0
    return batches_of(notes, with_rows=True)


@pytest.mark.parametrize(
    ("stop", "resumed_at", "interval", "trainer", "workers"),
    [
        ([1, 5], [1, 4], 3, {"accumulate_grad_batches": 2}, 2),
        pytest.param([0, 5], [0, 4], 1, {"accumulate_grad_batches": 2}, 0, marks=pytest.mark.slow),
        pytest.param([1, 1], [1, 0], 100, {}, 0, marks=pytest.mark.slow),
        ([1, 5], [1, 4], 100, {"val_check_interval": 4}, 0),
        pytest.param([1, 1], [1, 0], 100, {"max_steps": 11}, 0, marks=pytest.mark.slow),
        pytest.param([1, 4], [1, 2], 3, {"max_steps": 13}, 0, marks=pytest.mark.slow),
        pytest.param([2, 1], [2, 0], 100, {"max_steps": 16, "max_epochs": -1}, 0, marks=pytest.mark.slow),
        pytest.param([1, 3], [1, 1], 3, {"limit_train_batches": 5}, 0, marks=pytest.mark.slow),
        pytest.param([1, 1], [1, 0], 100, {"limit_train_batches": 5}, 0, marks=pytest.mark.slow),
        pytest.param([1, 4], [1, 2], 3, {"limit_val_batches": 0}, 0, marks=pytest.mark.slow),
        pytest.param([1, 1], [1, 0], 3, {"check_val_every_n_epoch": 2}, 0, marks=pytest.mark.slow),
        pytest.param([1, 4], [1, 2], 3, {"reload_dataloaders_every_n_epochs": 1}, 0, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_settings_of_the_trainer(tmp_path, monkeypatch, stop, resumed_at, interval, trainer, workers):
    sections = {"trainer": trainer, "last_checkpoint": {"every_n_train_steps": interval}}
    more = ["--data.num_workers", str(workers)]
    snapshots = [[*stop, "runs/cut"]]
    whole = fit(monkeypatch, tmp_path, "whole", *more, "--experiment", "whole", snapshots=snapshots, **sections)
    rest = fit(monkeypatch, tmp_path, "rest", *more, "--experiment", "cut", "--ckpt_path", "last", **sections)
    assert rest[0][:2] == resumed_at
    assert rest == whole[-len(rest) :]
    if trainer.get("limit_val_batches") != 0:  # else there is no best checkpoint
        assert_ends_as_whole("cut")


@pytest.mark.slow
def test_two_killed_processes_go_on_exactly(tmp_path, monkeypatch):
    words = prepare(tmp_path, trainer={"devices": 2, "strategy": "ddp"}, data={})
    for name, pull_at, more in (("whole", None, []), ("cut", [0, 4], []), ("cut", None, ["--ckpt_path", "last"])):
        monkeypatch.setenv("PULL_AT", json.dumps(pull_at))
        done = run_process(*words, "--data.batch_size", "4", "--experiment", name, *more, *QUIET, cwd=tmp_path)
        assert done.returncode == (0 if pull_at is None else -signal.SIGKILL), done.stderr
    assert_ends_as_whole("cut")


def test_another_number_of_processes_goes_on_with_a_warning(tmp_path, monkeypatch, whole):
    shutil.copytree(whole / "runs/cut_0_4", "runs/cut")
    path = next(Path("runs/cut").glob("*/checkpoints/last.ckpt"))
    content = torch.load(path, weights_only=True)
    content["resume"]["random"]["cpu"] = content["resume"]["random"]["cpu"].repeat(2, 1)
    path.unlink()
    torch.save(content, path)
    with pytest.warns(UserWarning, match="of 2 process"):
        rest = fit(monkeypatch, tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert [step[:2] for step in (rest[0], rest[-1])] == [[0, 3], [1, 6]]


def test_a_finished_run_trains_on_with_the_next_rows(tmp_path, monkeypatch, whole):
    cut = fit(monkeypatch, tmp_path, "cut", "--experiment", "cut", "--trainer.max_epochs", "1")
    rest = fit(monkeypatch, tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert cut + rest == batches_of(whole / "whole.jsonl", with_rows=True)
