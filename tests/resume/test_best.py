"""`best.ckpt` of a resumed run is the best of the whole training."""

import shutil
from pathlib import Path

import pytest
from resume.ends import prepare
from runs import run

from mebert.storage.checkpoints import read_checkpoint


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SNAPSHOTS", '[[2, 1, "runs/cut"]]')
        assert run(*fit(folder), "--experiment", "whole") == 0
    return folder / "runs" / "cut"


def fit(folder):
    """Nothing is learnt, so that every validation scores alike: the first one stays the best."""
    return [*prepare(folder, trainer={"max_epochs": 3}), "--model.learning_rate", "1e-30"]


def best_of(run_folder):
    best, last = (read_checkpoint(Path(run_folder, f"checkpoints/{name}.ckpt")) for name in ("best", "last"))
    (state,) = (value for key, value in last["callbacks"].items() if key.startswith("ModelCheckpoint"))
    return best["global_step"], float(state["best_model_score"])


def test_it_comes_along(tmp_path, capsys, caplog, killed):
    shutil.copytree(killed, "runs/moved")  # beside the checkpoint, wherever that is now
    assert run(*fit(tmp_path), "--experiment", "moved", "--ckpt_path", "last") == 0
    assert best_of("runs/moved/version_1") == best_of(killed / "version_0")
    assert best_of("runs/moved/version_1")[0] == 7
    assert "copied to runs/moved/version_1/checkpoints/best.ckpt" in caplog.text
    assert "mebert predict runs/moved/version_1 " in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["lost", pytest.param("damaged", marks=pytest.mark.slow)])
def test_without_it_the_rest_of_the_training_has_a_best_one(tmp_path, killed, fault):
    shutil.copytree(killed, "runs/cut")
    best = Path("runs/cut/version_0/checkpoints/best.ckpt")
    best.unlink() if fault == "lost" else best.write_bytes(best.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="the best checkpoint is that of the rest of the training"):
        assert run(*fit(tmp_path), "--experiment", "cut", "--ckpt_path", "last") == 0
    assert best_of("runs/cut/version_1")[0] == 21


def test_one_of_later_than_the_checkpoint_comes_again(tmp_path, killed):
    """Going on from an older file: what was best after it is not the best of this training yet."""
    shutil.copytree(killed, "runs/cut")
    folder = Path("runs/cut/version_0/checkpoints")
    content = read_checkpoint(folder / "last.ckpt")
    assert content["global_step"] == 15
    shutil.copy(folder / "last.ckpt", folder / "best.ckpt")  # of step 15; the older file is of step 14
    older = folder / "last-previous.ckpt"
    assert read_checkpoint(older)["global_step"] == 14
    assert run(*fit(tmp_path), "--experiment", "cut", "--ckpt_path", str(older)) == 0
    assert best_of("runs/cut/version_1")[0] == 21
