"""A run that is killed and resumed ends where the uninterrupted one does, to the last bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
import yaml
from runs import QUIET, experiment, run, run_process, write_config

# A user's own callback: notes the rows of every batch, and may pull the plug.
PLUG = """
import json
import os
import signal
from pathlib import Path

import lightning as L


class Plug(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        place = [trainer.current_epoch, batch_idx]
        if place == json.loads(os.environ.get("PULL_AT", "null")):
            os.kill(os.getpid(), signal.SIGKILL)
        with Path(f"{os.environ['NOTES']}_{trainer.global_rank}").open("a") as file:
            file.write(json.dumps([*place, batch["index"].tolist()]) + "\\n")
"""


def prepare(folder, monkeypatch, accumulate=1, every_n_steps=5, workers=0, **trainer):
    """The configuration: 2 epochs of 11 batches, the last one not full; dropout on."""
    monkeypatch.chdir(folder)
    (folder / "plug.py").write_text(PLUG)
    settings = experiment(dropout=0.1)
    settings["trainer"] |= {
        "accumulate_grad_batches": accumulate,
        "callbacks": [{"class_path": "plug.Plug"}],
        **trainer,
    }
    settings["data"]["init_args"] |= {"train_samples": 84, "batch_size": 8, "num_workers": workers}
    settings["last_checkpoint"] = {"every_n_train_steps": every_n_steps}
    settings["test_after_fit"] = False
    write_config(folder, settings)


def fit(folder, notes, *more, pull_at=None):
    """Run `fit` and return the rows of every batch as [epoch, batch, rows], a list a process.

    Every run is a process of its own, with one thread: sums taken in another order differ in the last bit.
    """
    environment = pytest.MonkeyPatch()
    environment.setenv("NOTES", notes)
    environment.setenv("PULL_AT", json.dumps(pull_at))
    done = run_process("fit", "--config", "tiny.yaml", *more, *QUIET, cwd=folder)
    expected = 0 if pull_at is None else -signal.SIGKILL
    assert done.returncode == expected, done.stderr
    environment.undo()
    files = sorted(folder.glob(f"{notes}_*"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def last_checkpoint(experiment_name):
    runs = Path("runs", experiment_name).glob("version_*/checkpoints/last.ckpt")
    return torch.load(max(runs, key=lambda path: path.stat().st_mtime_ns), weights_only=True)


def assert_same(one, two, where=""):
    """Equal to the last bit, at any depth."""
    assert type(one) is type(two), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), f"{where} differs"
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            assert_same(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), where
        for place, (left, right) in enumerate(zip(one, two, strict=True)):
            assert_same(left, right, f"{where}[{place}]")
    else:
        assert one == two, where


def assert_goes_on_exactly(whole, cut, rest, resumed_at):
    """The rows are those of the whole run from the checkpoint on, and so is all that was trained."""
    for all_rows, before, after in zip(whole, cut, rest, strict=True):
        assert before == all_rows[: len(before)]
        assert [step[:2] for step in after[:1]] == [resumed_at]
        assert after == all_rows[-len(after) :]
    one, two = last_checkpoint("whole"), last_checkpoint("cut")
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "resume", "mebert", "epoch", "global_step"):
        assert_same(one[key], two[key], key)


@pytest.mark.parametrize(
    ("pull_at", "resumed_at", "accumulate", "every_n_steps", "workers"),
    [
        pytest.param([0, 8], [0, 5], 1, 5, 0, marks=pytest.mark.slow),  # as in tests/resume, for every recipe
        ([1, 9], [1, 4], 2, 8, 2),
        pytest.param([1, 7], [1, 4], 1, 5, 0, marks=pytest.mark.slow),
        pytest.param([0, 7], [0, 4], 2, 2, 0, marks=pytest.mark.slow),
        pytest.param([0, 3], [0, 2], 1, 2, 2, marks=pytest.mark.slow),
        pytest.param([1, 1], [1, 0], 1, 100, 0, marks=pytest.mark.slow),
    ],
    ids=[
        "epoch 0",
        "epoch 1, accumulating, workers",
        "epoch 1",
        "epoch 0, accumulating",
        "epoch 0, workers",
        "the end of epoch 0",
    ],
)
def test_a_killed_run_ends_as_the_whole_one(
    tmp_path, monkeypatch, pull_at, resumed_at, accumulate, every_n_steps, workers
):
    prepare(tmp_path, monkeypatch, accumulate, every_n_steps, workers)
    whole = fit(tmp_path, "whole", "--experiment", "whole")
    cut = fit(tmp_path, "cut", "--experiment", "cut", pull_at=pull_at)
    rest = fit(tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert_goes_on_exactly(whole, cut, rest, resumed_at)


@pytest.mark.slow
def test_two_processes_go_on_exactly(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, devices=2, strategy="ddp", every_n_steps=2)
    whole = fit(tmp_path, "whole", "--experiment", "whole")
    cut = fit(tmp_path, "cut", "--experiment", "cut", pull_at=[0, 3])
    rest = fit(tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert len(whole) == 2
    assert_goes_on_exactly(whole, cut, rest, [0, 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("every_n_steps", "trainer", "pull_at", "resumed_at"),
    [
        (100, {"val_check_interval": 4}, [1, 6], [1, 4]),
        (100, {"max_steps": 18}, [1, 1], [1, 0]),
        (5, {"max_steps": 18}, [1, 6], [1, 4]),
        (100, {"max_steps": 25, "max_epochs": -1}, [2, 1], [2, 0]),
        (3, {"limit_train_batches": 7}, [1, 4], [1, 2]),
        (100, {"limit_train_batches": 7}, [1, 1], [1, 0]),
        (5, {"limit_val_batches": 0}, [1, 6], [1, 4]),
        (5, {"check_val_every_n_epoch": 2}, [1, 1], [1, 0]),
        (5, {"reload_dataloaders_every_n_epochs": 1}, [1, 6], [1, 4]),
    ],
    ids=str,
)
def test_settings_of_the_trainer_under_which_it_is_exact(
    tmp_path, monkeypatch, every_n_steps, trainer, pull_at, resumed_at
):
    prepare(tmp_path, monkeypatch, every_n_steps=every_n_steps, **trainer)
    whole = fit(tmp_path, "whole", "--experiment", "whole")
    cut = fit(tmp_path, "cut", "--experiment", "cut", pull_at=pull_at)
    rest = fit(tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert_goes_on_exactly(whole, cut, rest, resumed_at)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "pull_at", "resumed_at"),
    [
        ("mebert.GEEPModule", [1, 7], [1, 4]),
        ("mebert.FastBERTModule", [0, 8], [0, 5]),
        ("mebert.FastBERTModule", [1, 7], [1, 4]),
        ("mebert.FastBERTModule", [1, 1], [1, 0]),
    ],
    ids=["GEEP", "FastBERT, stage 1", "FastBERT, stage 2", "FastBERT, between the stages"],
)
def test_recipes_with_a_step_of_their_own_go_on_exactly(tmp_path, monkeypatch, recipe, pull_at, resumed_at):
    prepare(tmp_path, monkeypatch)
    settings = yaml.safe_load(Path("tiny.yaml").read_text(encoding="utf-8"))
    settings["model"]["class_path"] = recipe
    del settings["model"]["init_args"]["prototype_dim"]
    if recipe.endswith("FastBERTModule"):
        settings["model"]["init_args"]["stage1_epochs"] = 1
    write_config(tmp_path, settings)
    whole = fit(tmp_path, "whole", "--experiment", "whole")
    cut = fit(tmp_path, "cut", "--experiment", "cut", pull_at=pull_at)
    rest = fit(tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert_goes_on_exactly(whole, cut, rest, resumed_at)


def test_another_number_of_processes_goes_on_with_a_warning(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch)
    fit(tmp_path, "cut", "--experiment", "cut", pull_at=[0, 6])
    path = next(Path("runs/cut").glob("*/checkpoints/last.ckpt"))
    content = torch.load(path, weights_only=True)
    content["resume"]["random"]["cpu"] = content["resume"]["random"]["cpu"].repeat(2, 1)
    torch.save(content, path)
    monkeypatch.setenv("NOTES", "rest")
    with pytest.warns(UserWarning, match="of 2 process"):
        assert run("fit", "--config", "tiny.yaml", "--experiment", "cut", "--ckpt_path", "last") == 0
    rest = [json.loads(line) for line in Path("rest_0").read_text().splitlines()]
    assert rest[0][:2] == [0, 5]
    assert rest[-1][:2] == [1, 10]


@pytest.mark.slow
def test_a_finished_run_trains_on_with_the_next_rows(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch)
    whole = fit(tmp_path, "whole", "--experiment", "whole")
    cut = fit(tmp_path, "cut", "--experiment", "cut", "--trainer.max_epochs", "1")
    rest = fit(tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert cut[0] + rest[0] == whole[0]
