"""Files that would run code, given to every command: none runs, each is told in one line (`marker` looks)."""

import itertools
import json
import re
import shutil

import pytest
import torch
from bombs import Bomb, error_of, write_code, write_json, write_pickle
from lightning.pytorch.cli import LightningCLI
from runs import experiment, write_config

import mebert.cli.settings
from mebert.data.tasks import Task, load_hub_dataset
from mebert.data.tokenizers import load_tokenizer
from mebert.errors import UserError
from mebert.metrics.record_files import load_record
from mebert.models import build_encoder
from mebert.modules.teacher_sources import find_teacher

MODEL, CHECKPOINT = "runs/tiny/version_0/model", "runs/tiny/version_0/checkpoints/best.ckpt"


def test_the_bombs_are_real(marker, here):
    """Where they are opened without care they do run, or else this file would show nothing."""
    torch.load(write_pickle(here / "x.ckpt", marker), weights_only=False)
    assert marker.exists()
    marker.unlink()
    write_code(here / "evil_probe.py", marker)
    __import__("evil_probe")
    assert marker.exists()
    marker.unlink()


# ---- checkpoints -----------------------------------------------------------------------------------------------------

CONFIG = ["--config", "tiny.yaml", "--ckpt_path"]
LAST = CHECKPOINT.replace("best", "last")


@pytest.mark.parametrize(
    ("args", "how", "says"),
    [
        (["fit", *CONFIG, "evil.ckpt"], "torch", "evil.ckpt is not a readable checkpoint"),
        (["test", *CONFIG, "evil.ckpt"], "legacy", "evil.ckpt is not a readable checkpoint"),
        (["predict", *CONFIG, "evil.ckpt"], "bare", "evil.ckpt is not a readable checkpoint"),
        (["fit", *CONFIG, "last"], "torch", "last.ckpt is not a readable checkpoint"),
        (["inspect", "evil.ckpt", "--text", "a dog"], "torch", "evil.ckpt is not a readable checkpoint"),
        (["bench", "--model", "evil.ckpt"], "torch", "evil.ckpt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_checkpoint_with_a_bomb(args, how, says, here, marker, capsys):
    write_pickle(here / (LAST if "last" in args else "evil.ckpt"), marker, how)
    assert says in error_of(capsys, *args)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("state_dict", [1], "state_dict: .*, got .1."),
        ("state_dict", {"a": 2}, "state_dict.a: .*Tensor, got 2"),
        ("mebert", None, "mebert: .*, got None"),
        ("hyper_parameters", "x", "hyper_parameters: .*, got 'x'"),
        ("loops", 3, "loops: .*, got 3"),
        ("callbacks", 3, "callbacks: .*, got 3"),
        ("optimizer_states", [{}], "it lacks the key 'optimizer_states.0.state'"),
        ("lr_schedulers", [3], "lr_schedulers.0: .*, got 3"),
        ("epoch", "x", "epoch: .*, got 'x'"),
        ("pytorch-lightning_version", 3, "pytorch-lightning_version: .*, got 3"),
    ],
    ids=str,
)
def test_a_part_of_another_kind(part, value, says, here, capsys):
    torch.save(torch.load(CHECKPOINT, weights_only=True) | {part: value}, "odd.ckpt")
    assert re.search(f"odd.ckpt is a damaged checkpoint: {says}", error_of(capsys, "test", *CONFIG, "odd.ckpt"))
    assert re.search(says, error_of(capsys, "inspect", "odd.ckpt", "--text", "a dog"))


def test_no_setting_and_no_variable_opens_it(here, marker, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    write_pickle(here / "evil.ckpt", marker)
    assert "not a readable checkpoint" in error_of(capsys, "test", *CONFIG, "evil.ckpt")
    allowed = ["--weights_only", "false"]
    assert "opens no checkpoint that could run code" in error_of(capsys, "test", *CONFIG, "best", *allowed)


def test_a_checkpoint_that_changes_between_looking_and_loading(here, marker, capsys, monkeypatch):
    """Lightning opens the file again after mebert has looked into it; that, too, takes weights alone."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # what Lightning would then do by itself
    looked = mebert.cli.settings.read_checkpoint

    def look_and_swap(path):
        found = looked(path)
        shutil.copy(path, "kept.ckpt")
        content = torch.load("kept.ckpt", weights_only=True)
        path.unlink()
        torch.save(content | {"callbacks": Bomb(marker)}, path)
        return found

    monkeypatch.setattr(mebert.cli.settings, "read_checkpoint", look_and_swap)
    monkeypatch.setattr(LightningCLI, "_parse_ckpt_path", lambda self: None)
    said = error_of(capsys, "test", "--config", "tiny.yaml", "--ckpt_path", CHECKPOINT)
    assert re.search(r"[Ww]eights.only", said)


def test_a_teacher_with_a_bomb(here, marker):
    write_pickle(here / "evil.ckpt", marker)
    with pytest.raises(UserError, match=r"teacher 'evil\.ckpt' cannot be loaded"):
        find_teacher("evil.ckpt")


# ---- model folders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bombed_weights(here, marker):
    """The model's folder with weights as a pickle in the place of safetensors."""
    (here / MODEL / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Bomb(marker)}, here / MODEL / "pytorch_model.bin")
    return here


def open_classifier(folder):
    return mebert.EarlyExitClassifier.from_pretrained(folder)


@pytest.mark.parametrize("opening", [open_classifier, build_encoder, mebert.MultiExitModel.from_pretrained])
def test_a_model_folder_with_pytorch_model_bin(opening, bombed_weights):
    with pytest.raises(UserError, match=r"cannot load .*code of its own"):
        opening(MODEL)


@pytest.mark.parametrize(
    "args",
    [
        ["calibrate", MODEL, "--speedup", "1.5"],
        ["bench", "--model", MODEL],
        ["inspect", MODEL, "--text", "a dog"],
        ["cascade", "--models", MODEL, MODEL, "--out", "out"],
    ],
    ids=lambda args: args[0],
)
def test_commands_refuse_such_a_folder(args, bombed_weights, capsys):
    assert "cannot load" in error_of(capsys, *args)


@pytest.mark.parametrize("name", ["exits.safetensors", "model.safetensors", "exit_predictor.safetensors"])
def test_a_pickle_by_the_name_of_safetensors(name, here, marker):
    (here / MODEL / "exit_predictor.json").write_text('{"format": 1, "predictors": []}', encoding="utf-8")
    write_pickle(here / MODEL / name, marker)
    with pytest.raises(UserError):
        open_classifier(MODEL)


def test_a_recorded_pass_that_is_a_pickle(here, marker, capsys):
    write_pickle(here / "runs/tiny/version_0/outputs.safetensors", marker)
    with pytest.raises(UserError, match="cannot be read as a recorded pass"):
        load_record("runs/tiny/version_0/outputs.safetensors")
    assert "cannot be read as a recorded pass" in error_of(capsys, "compare", "runs/tiny/version_0")


# ---- code on the Hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def remote_code(here, marker, monkeypatch):
    """A model of an unknown kind, with the code for it; and somebody who answers yes to every question."""
    write_code(here / MODEL / "evil_code.py", marker)
    auto_map = {
        "AutoConfig": "evil_code.Config",
        "AutoModel": "evil_code.Model",
        "AutoModelForSequenceClassification": "evil_code.Model",
    }
    write_json(here / MODEL / "config.json", model_type="evil", auto_map=auto_map)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return here


@pytest.mark.parametrize("opening", [open_classifier, build_encoder, lambda name: find_teacher(name).build()])
def test_a_model_with_remote_code(opening, remote_code):
    with pytest.raises(UserError, match="never runs"):
        opening(MODEL)


def test_fit_with_an_encoder_with_remote_code(remote_code, capsys):
    (remote_code / MODEL / "exits.json").unlink()
    settings = experiment(encoder=MODEL)
    del settings["model"]["init_args"]["encoder_config"]
    write_config(remote_code, settings, "remote.yaml")
    assert "never runs" in error_of(capsys, "fit", "--config", "remote.yaml")


@pytest.mark.parametrize("known", [True, False], ids=["with a known class", "of an unknown one"])
def test_a_tokenizer_with_remote_code(known, here, marker, monkeypatch):
    write_code(here / MODEL / "evil_code.py", marker)
    kind = "PreTrainedTokenizerFast" if known else "EvilTokenizer"
    more = {"auto_map": {"AutoTokenizer": ["evil_code.Tokenizer", "evil_code.Tokenizer"]}, "tokenizer_class": kind}
    write_json(here / MODEL / "tokenizer_config.json", **more)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    assert load_tokenizer(MODEL)("a dog")["input_ids"], "the library's own class does without the code"


def test_a_data_set_with_a_loading_script(here, marker):
    folder = here / "evil_data"
    folder.mkdir()
    write_code(folder / "evil_data.py", marker)
    task = Task("evil", str(folder), None, ("sentence",), ("no", "yes"))
    with pytest.raises(UserError, match="code of its own"):
        load_hub_dataset(task)


# ---- text files ------------------------------------------------------------------------------------------------------


def yaml_bomb(marker):
    return f"!!python/object/apply:builtins.open [{str(marker)!r}, w]"


@pytest.mark.parametrize("form", ["experiment: {}", "name: x\nbase: {}"], ids=["fit", "study"])
def test_yaml_tags_of_python_objects_in_a_config(form, here, marker, capsys):
    (here / "evil.yaml").write_text(form.format(yaml_bomb(marker)))
    command = "study" if "base" in form else "fit"
    assert "the tag !!python/object" in error_of(capsys, command, "--config", "evil.yaml")
    if command == "fit":
        assert error_of(capsys, "fit", "--config", "tiny.yaml", "--model.learning_rate", yaml_bomb(marker))


@pytest.mark.parametrize("args", [["calibrate", MODEL, "--speedup", "1.5"], ["compare", "runs/tiny/version_0"]])
def test_yaml_tags_in_the_config_of_a_run(args, here, marker, capsys):
    (here / "runs/tiny/version_0/config.yaml").write_text(f"data: {yaml_bomb(marker)}\n")
    assert "config.yaml" in error_of(capsys, *args)


HOSTILE = {
    "nested": "model: " + 3000 * "[" + 3000 * "]",
    "mappings": "model: " + 2000 * "{a: " + "1" + 2000 * "}",
    "digits": "seed_everything: 1" + 5000 * "0",
    "no integer": "trainer: {max_epochs: !!int abc}",
    "itself": "model: &a {x: *a}\ndata: 1",
    "aliases": "a: &a [1,2,3]\n"
    + "".join(f"{b}: &{b} [{','.join(9 * ['*' + a])}]\n" for a, b in itertools.pairwise("abcdefghi"))
    + "model: *i",
}


SLOW = pytest.mark.slow


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize(
    "command", ["fit", "calibrate", pytest.param("study", marks=SLOW), pytest.param("a run's", marks=SLOW)]
)
def test_yaml_that_no_parser_likes(command, text, here, capsys):
    (here / "evil.yaml").write_text(text)
    if command == "a run's":
        (here / "runs/tiny/version_0/config.yaml").write_text(text)
        assert "config.yaml" in error_of(capsys, "calibrate", MODEL, "--max_drop", "0.5")
        assert error_of(capsys, "compare", "runs/tiny/version_0")
    else:
        assert "evil.yaml" in error_of(capsys, command, "--config", "evil.yaml")


def test_json_of_a_folder_is_data(here, marker):
    """No value of `exits.json` is more than a value."""
    settings = json.loads((here / MODEL / "exits.json").read_text())
    settings["label_names"] = [f"__import__('os').system('touch {marker}')", "b", "c"]
    (here / MODEL / "exits.json").write_text(json.dumps(settings))
    answer = open_classifier(MODEL)("a dog")
    assert set(answer.probabilities) == set(settings["label_names"])
