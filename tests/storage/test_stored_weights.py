"""The weights of a finished run are stored once, in its model folder; best.ckpt refers to them."""

import shutil
from pathlib import Path

import pytest
import torch
from runs import experiment, newest, read_csv, run, write_config

import mebert
from mebert.cli.main import main
from mebert.errors import UserError
from mebert.storage.checkpoints import read_checkpoint

RUN = Path("runs/tiny/version_0")
BEST, LAST = RUN / "checkpoints/best.ckpt", RUN / "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with the default settings of both checkpoints."""
    folder = tmp_path_factory.mktemp("light")
    settings = experiment()
    del settings["last_checkpoint"]
    settings["trainer"]["max_epochs"] = 1
    write_config(folder, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("fit", "--config", "tiny.yaml") == 0
    return folder


@pytest.fixture
def light(finished, tmp_path, monkeypatch):
    """A copy of it as the working directory."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


def words(command, checkpoint="best", *more):
    return [command, "--config", "tiny.yaml", "--ckpt_path", str(checkpoint), *more]


def test_once(light):
    """Nothing of the state is in the checkpoint, and all of it comes back bit for bit."""
    assert [path.name for path in BEST.parent.iterdir()] == ["best.ckpt"]
    plain = torch.load(BEST, weights_only=True)
    assert (plain["state_dict"], "optimizer_states" in plain) == ({}, False)
    state = read_checkpoint(BEST)["state_dict"]
    model = mebert.MultiExitModel.from_pretrained(RUN / "model").state_dict()
    assert state.keys() == {f"model.{name}" for name in model}
    assert all(torch.equal(state[f"model.{name}"], value) for name, value in model.items())


def test_it_still_serves(light):
    assert run(*words("test")) == 0
    answers = []
    for checkpoint in ("best", BEST):
        assert run(*words("predict", checkpoint, "--out", "out.csv")) == 0
        answers.append([row["label"] for row in read_csv("out.csv")])
    assert answers[0] == answers[1]
    assert main(["inspect", str(BEST), "--text", "kurt can dive"]) == 0
    opened, kept = mebert.ProtoExitModule.load_from_checkpoint(BEST).state_dict(), read_checkpoint(BEST)["state_dict"]
    assert opened.keys() == kept.keys()
    assert all(torch.equal(opened[name], value) for name, value in kept.items())


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ("best", "best.ckpt: it has weights alone and no state of the optimizer"),
        ("last", "--ckpt_path last: the training of runs/tiny/version_1 is finished, and its last.ckpt was removed"),
    ],
)
def test_a_training_cannot_go_on_from_it(light, capsys, checkpoint, said):
    RUN.rename("runs/tiny/version_1")
    LAST.parent.mkdir(parents=True)
    LAST.write_bytes(b"of an older run, which was stopped")
    assert run(*words("fit", checkpoint)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "--ckpt_path" in line]
    assert said in line
    assert "--last_checkpoint.keep true" in line
    assert "--model.encoder <run folder>/model" in line


def test_a_new_training_begins_with_its_encoder(light):
    more = ["--model.encoder", str(RUN / "model"), "--model.encoder_config", "null", "--trainer.max_steps", "1"]
    assert run("fit", "--config", "tiny.yaml", *more, "--test_after_fit", "false", "--experiment", "next") == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("copied", "model/exits.safetensors is missing: copy the run's folder whole (checkpoints/ and model/)"),
        ("changed", "model.safetensors is damaged or of another training"),
    ],
)
def test_without_its_folder(light, capsys, fault, said):
    path = BEST
    if fault == "copied":
        path = Path("copied/best.ckpt")
        path.parent.mkdir()
        shutil.copy(BEST, path)
    else:
        file = RUN / "model/model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    capsys.readouterr()
    assert run(*words("test", path)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert said in line
    assert str(path) in line
    with pytest.raises(UserError, match="has its weights in the model folder of its run"):
        mebert.MultiExitModule.load_from_checkpoint(path)


def test_asked_for(here):
    """One setting each keeps the checkpoint to go on from, and a best one that needs nothing beside it."""
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    write_config(here, settings | {"checkpoint": {"save_weights_only": False}, "test_after_fit": False})
    assert run("fit", "--config", "tiny.yaml") == 0
    assert LAST.is_file()
    shutil.rmtree(RUN / "model")
    assert read_checkpoint(BEST)["optimizer_states"]
    assert run(*words("fit", "best", "--trainer.max_epochs", "2")) == 0


@pytest.mark.slow
def test_of_a_run_that_goes_on(light):
    """A run that resumes takes the best checkpoint of a finished one along, with its weights."""
    Path("tiny.yaml").write_text(Path("tiny.yaml").read_text().replace("max_epochs: 1", "max_epochs: 2"))
    more = [
        "--last_checkpoint.keep",
        "true",
        "--experiment",
        "kept",
        "--trainer.max_epochs",
        "1",
        "--model.learning_rate",
        "1e-30",
    ]
    assert run("fit", "--config", "tiny.yaml", *more, "--test_after_fit", "false") == 0
    assert run(*words("fit", "last"), "--experiment", "kept", "--test_after_fit", "false") == 0
    first, second = (read_checkpoint(Path(f"runs/kept/version_{n}/checkpoints/best.ckpt")) for n in (0, 1))
    assert first["global_step"] == second["global_step"] == 6
    shutil.rmtree("runs/kept/version_0")
    assert run(*words("test"), "--experiment", "kept") == 0


def test_a_run_of_minilm_size(here):
    """22.7 million weights, once."""
    size = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    settings = experiment("MultiExitModule")
    settings["model"]["init_args"]["encoder_config"] |= size | {"vocab_size": 30522, "max_position_embeddings": 512}
    settings["trainer"] |= {"max_steps": 1, "limit_val_batches": 1}
    del settings["last_checkpoint"]
    write_config(here, settings | {"test_after_fit": False})
    assert run("fit", "--config", "tiny.yaml") == 0
    assert sum(path.stat().st_size for path in RUN.rglob("*") if path.is_file()) < 120e6


@pytest.mark.parametrize("at", ["mebert.cli.lightning.store_once", "mebert.cli.saved_model.save_predictors"])
def test_a_kill_in_between_loses_nothing(here, monkeypatch, at):
    """The model folder is complete first, then the light checkpoint takes the place of the heavy one."""
    write_config(here)

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    monkeypatch.setattr(at, kill)
    with pytest.raises(Killed):
        run("fit", "--config", "tiny.yaml", "--trainer.max_epochs", "1", "--test_after_fit", "false")
    assert (RUN / "model/exits.json").is_file()
    assert torch.load(BEST, weights_only=True)["state_dict"]
    assert LAST.is_file()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run(*words("fit", "last", "--trainer.max_epochs", "2", "--test_after_fit", "false")) == 0
    assert newest(here).name == "version_1"
