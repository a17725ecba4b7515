"""A curriculum on one process and on two, and in a run that is killed and resumed, through the real command line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from runs import write_config
from test_resume import assert_goes_on_exactly, assert_same, fit, last_checkpoint, prepare

from mebert.curriculum import RootCompetence
from mebert.curriculum.sampler import CurriculumSampler

BATCH = 16
KNOWN = {"class_path": "mebert.curriculum.KnownDifficulty"}
LOSS = {"class_path": "mebert.curriculum.Loss"}
PACING = {"class_path": "mebert.curriculum.RootCompetence", "init_args": {"until": 0.8, "start": 0.2}}
DATA = "SyntheticCurriculumDataModule"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep what tests cache away from the user's cache, in this process and in those that it starts."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/mebert"


def change(folder, data, dropout=None, **trainer):
    """Change the configuration that `prepare` has written to one with a curriculum."""
    settings = yaml.safe_load((folder / "tiny.yaml").read_text())
    settings["data"]["class_path"] = f"mebert.{DATA}"
    settings["data"]["init_args"] |= data
    if dropout is not None:
        settings["model"]["init_args"]["dropout"] = dropout
    settings["trainer"] |= trainer
    write_config(folder, settings)


def train(folder, monkeypatch, processes, **data):
    """Train without dropout in batches of 16 over all processes; return the global batches and the checkpoint."""
    name = f"on_{processes}"
    prepare(folder, monkeypatch, devices=processes, strategy="ddp" if processes > 1 else "auto")
    # All rows ranked together, so that the order can be told from the scores alone.
    data |= {"train_samples": 96, "batch_size": BATCH // processes, "within_class": False}
    change(folder, data, dropout=0.0)
    notes = fit(folder, name, "--experiment", name)
    assert len(notes) == processes
    batches = {}
    for epoch, batch, rows in (line for rank in notes for line in rank):
        batches.setdefault((epoch, batch), []).extend(rows)
    return {place: sorted(rows) for place, rows in batches.items()}, last_checkpoint(name)


# ---- one process against two -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_see_the_same_batches_and_learn_the_same(tmp_path, monkeypatch):
    one, two = (train(tmp_path, monkeypatch, n, difficulty=KNOWN, pacing=PACING) for n in (1, 2))
    assert len(one[0]) == 2 * 6
    assert one[0] == two[0]
    for name, tensor in one[1]["state_dict"].items():
        torch.testing.assert_close(two[1]["state_dict"][name], tensor, atol=3e-4, rtol=1e-3, msg=f"{name} differs")


@pytest.mark.slow  # tests/processes compares the order of rows, quickly
def test_two_processes_know_the_same_difficulty(tmp_path, monkeypatch):
    """Rows come several times in an epoch: what counts is the newest score, whichever process has it."""
    data = {"difficulty": LOSS, "initial": KNOWN, "pacing": PACING, "smoothing": 0.3}
    one, two = (train(tmp_path, monkeypatch, n, **data) for n in (1, 2))
    first = {place: rows for place, rows in one[0].items() if place[0] == 0}
    assert first == {place: rows for place, rows in two[0].items() if place[0] == 0}
    seen = {row for rows in first.values() for row in rows}
    assert len(seen) < 96
    tables = [checkpoint[DATA]["in_use"] for _, checkpoint in (one, two)]
    assert tables[0].isnan().sum() == 96 - len(seen)
    torch.testing.assert_close(*tables, atol=1e-4, rtol=1e-4, equal_nan=True)
    # A bit of a score may turn a tie, so the second epoch is held against an order made of each run's own table.
    for (batches, _), table in zip((one, two), tables, strict=True):
        sampler = CurriculumSampler(
            np.full(96, 9), BATCH, lambda epoch, t=table: t.numpy(), pacing=RootCompetence(0.8, 0.2),
            total_batches=12, seed=42, group_by_length=False,
        )  # fmt: skip
        sampler.set_epoch(1)
        order = list(sampler)
        assert [batches[1, number] for number in range(6)] == [
            sorted(order[start : start + BATCH]) for start in range(0, 96, BATCH)
        ]


def test_teachers_of_a_cross_review_are_trained_on_one_process_while_the_other_waits(tmp_path, monkeypatch, cache):
    """With a module that reduces its prototypes over all processes, this would hang if the teachers did, too."""
    review = {"class_path": "mebert.curriculum.CrossReview", "init_args": {"teachers": 2}}
    batches, checkpoint = train(tmp_path, monkeypatch, 2, difficulty=review)
    (file,) = cache.glob("cross_review-*ProtoExitModule*.npy")
    order = np.argsort(np.load(file))
    for start in range(0, 96, BATCH):
        assert batches[0, start // BATCH] == sorted(order[start : start + BATCH].tolist())
    assert any("prototypes" in name for name in checkpoint["state_dict"])


# ---- killed and resumed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "pull_at", "resumed_at"),
    [
        pytest.param({}, [1, 7], [1, 4], marks=pytest.mark.slow),  # tests/resume: each measure, quickly
        pytest.param({"scores_from": "inference", "smoothing": 0.5}, [1, 7], [1, 4], marks=pytest.mark.slow),
        pytest.param({"smoothing": 0.5, "initial": KNOWN}, [0, 8], [0, 5], marks=pytest.mark.slow),
    ],
    ids=["scores of training", "scores by inference", "epoch 0"],
)
def test_a_killed_curriculum_ends_as_the_whole_one(tmp_path, monkeypatch, data, pull_at, resumed_at):
    prepare(tmp_path, monkeypatch)
    change(tmp_path, {"difficulty": LOSS, "pacing": PACING, **data}, max_epochs=3)
    whole = fit(tmp_path, "whole", "--experiment", "whole")
    cut = fit(tmp_path, "cut", "--experiment", "cut", pull_at=pull_at)
    rest = fit(tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert_goes_on_exactly(whole, cut, rest, resumed_at)
    states = [last_checkpoint(name)[DATA] for name in ("whole", "cut")]
    assert all(state["latest"].isfinite().all() for state in states)
    assert_same(*[{name: state[name] for name in ("latest", "epoch")} for state in states])
    np.testing.assert_array_equal(*[state["in_use"].numpy() for state in states])


@pytest.mark.slow
def test_a_killed_curriculum_on_two_processes_ends_as_the_whole_one(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, devices=2, strategy="ddp", every_n_steps=2)
    change(tmp_path, {"difficulty": LOSS, "pacing": PACING, "smoothing": 0.5})
    whole = fit(tmp_path, "whole", "--experiment", "whole")
    cut = fit(tmp_path, "cut", "--experiment", "cut", pull_at=[1, 3])
    rest = fit(tmp_path, "rest", "--experiment", "cut", "--ckpt_path", "last")
    assert_goes_on_exactly(whole, cut, rest, [1, 2])
