"""A file may name classes that are imported, of the kind that belongs there; nothing is imported or called for it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from bombs import error_of, write_code, write_json
from runs import experiment, run, write_config

import mebert.cli.main
from mebert.commands.inspect.source import open_model
from mebert.errors import UserError
from mebert.exit_predictor.base import predictor_from_state
from mebert.modules.teacher_sources import find_teacher
from mebert.policies import Entropy, ExitPolicy, policy_from_spec
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.trusted_classes import check_named_classes, imported_class

FOLDER, MODEL = "runs/tiny/version_0", "runs/tiny/version_0/model"
CHECKPOINT = f"{FOLDER}/checkpoints/best.ckpt"
CALLABLES = ["os.system", "subprocess.Popen", "torch.hub.load", "builtins.exec", "runpy.run_path"]
FOREIGN = ["collections.OrderedDict", "torch.nn.Linear", "mebert.policies.policy_from_spec", "", "Entropy", "no.Thing"]


@pytest.fixture
def evil(here, marker):
    """A module beside the files, on the path of imports, that makes the marker when it is imported."""
    write_code(here / "evil_module.py", marker)
    yield "evil_module"
    assert "evil_module" not in sys.modules
    sys.modules.pop("evil_module", None)


def changed_checkpoint(part: str = "hyper_parameters", **changes: Any):
    """The run's checkpoint with other settings of its module (or in another part), as `changed.ckpt`."""
    content = read_checkpoint(Path(CHECKPOINT))
    content[part] = content.get(part, {}) | changes
    torch.save(content, "changed.ckpt")
    return "changed.ckpt"


# ---- names in general ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*CALLABLES, *FOREIGN])
def test_what_is_no_policy_is_refused_without_being_called(path):
    with pytest.raises(UserError, match="the saved policy is of the class"):
        policy_from_spec({"class_path": path, "init_args": {"command": "exit 1"}})
    with pytest.raises(UserError, match="the saved exit predictor is of the class"):
        predictor_from_state({"class_path": path, "init_args": {}, "tensors": {}})


def test_an_imported_class_of_the_user_is_found():
    @dataclass
    class Mine(Entropy):
        name: ClassVar[str] = "mine"

    module = type(sys)("a_users_module")
    module.Mine = Mine
    sys.modules["a_users_module"] = module
    try:
        assert imported_class("a_users_module.Mine", ExitPolicy, "it") is Mine
        assert isinstance(policy_from_spec({"class_path": "a_users_module.Mine"}), Mine)
    finally:
        del sys.modules["a_users_module"]
    with pytest.raises(UserError, match=r"a_users_module\.Mine.*not imported.*--model.*`import a_users_module`"):
        imported_class("a_users_module.Mine", ExitPolicy, "it", "--model")


def test_a_lazy_package_imports_nothing_for_a_name():
    import transformers

    before = set(sys.modules)
    with pytest.raises(UserError):
        imported_class("transformers.TimesformerModel", torch.nn.Module, "it")
    assert set(sys.modules) == before
    assert transformers.__name__ in before


# ---- checkpoints -----------------------------------------------------------------------------------------------------

SPEC = {"class_path": "evil_module.Policy", "init_args": {}}
IN_CHECKPOINTS = {
    "its module": {"_class_path": "evil_module.Module"},
    "its module, as a configuration has it": {"class_path": "evil_module.Module"},
    "its policy": {"policy": SPEC},
    "its policy, by name alone": {"policy": "evil_module.Policy"},
    "its policy, as a text of YAML": {"policy": json.dumps(SPEC)},
    "its policy, in a file": {"policy": "policy.yaml"},
    "a setting that takes anything": {"encoder_config": {"model_type": "bert", "more": SPEC}},
    "such a setting, as a text": {"encoder_config": {"model_type": "bert", "more": json.dumps(SPEC)}},
    "within a list": {"encoder_config": {"model_type": "bert", "more": [1, [SPEC]]}},
    "a setting that there is not": {"unheard_of": SPEC},
    "a function": {"_class_path": "mebert.modules.base.MultiExitModule.load_from_checkpoint"},
    "a command": {"policy": {"class_path": "subprocess.Popen", "init_args": {"args": ["true"]}}},
    "a command where anything goes": {
        "encoder_config": {"model_type": "bert", "more": {"class_path": "subprocess.Popen"}}
    },
    "no module at all": {"_class_path": "collections.OrderedDict"},
}


@pytest.mark.parametrize(
    ("command", "name"),
    [("test", "its policy, in a file"), ("test", "a command where anything goes"), ("fit", "its module")],
)
def test_a_checkpoint_that_names_code(command, name, evil, here, capsys):
    (here / "policy.yaml").write_text(yaml.safe_dump(SPEC))
    path = changed_checkpoint(**IN_CHECKPOINTS[name])
    line = error_of(capsys, command, "--config", "tiny.yaml", "--ckpt_path", path)
    assert path in line or "policy" in line
    assert "Traceback" not in line


@pytest.mark.parametrize("name", IN_CHECKPOINTS)
def test_such_a_checkpoint_as_teacher_and_under_inspect(name, evil, here):
    (here / "policy.yaml").write_text(yaml.safe_dump(SPEC))
    path = changed_checkpoint(**IN_CHECKPOINTS[name])
    with pytest.raises(UserError):
        open_model(path)
    with pytest.raises(UserError):
        find_teacher(path).build()


@pytest.mark.parametrize("key", ["hparams", "module_arguments"])
def test_settings_under_the_names_of_old_versions(key, evil, here):
    path = changed_checkpoint(key, _class_path="evil_module.Module")
    with pytest.raises(UserError, match="evil_module"):
        read_checkpoint(here / path)


@pytest.mark.parametrize(
    ("part", "value", "named"),
    [
        ("policy", SPEC, "evil_module.Policy"),
        ("policy", {"class_path": "os.system", "init_args": {"command": "true"}}, "os.system"),
        ("exit_predictors", [{**SPEC, "tensors": {}}], "evil_module.Policy"),
    ],
)
def test_what_stands_beside_the_weights(part, value, named, evil, here, capsys):
    path = changed_checkpoint("mebert", **{part: value})
    assert named in error_of(capsys, "test", "--config", "tiny.yaml", "--ckpt_path", path)


def test_a_recipe_of_the_users_own_goes_on_where_he_names_it(here, capsys, monkeypatch):
    (here / "own_recipe.py").write_text("import mebert\nclass Own(mebert.MultiExitModule):\n    pass\n")
    settings = experiment()
    settings["trainer"]["max_steps"] = 2
    settings |= {"experiment": "own", "test_after_fit": False}
    settings["model"]["class_path"] = "own_recipe.Own"
    del settings["model"]["init_args"]["prototype_dim"]
    write_config(here, settings, "own.yaml")
    assert run("fit", "--config", "own.yaml") == 0
    path = "runs/own/version_0/checkpoints/best.ckpt"
    del sys.modules["own_recipe"]
    with pytest.raises(UserError, match=r"own_recipe\.Own.*--model own_recipe\.Own"):
        read_checkpoint(here / path)
    assert run("predict", "--config", "own.yaml", "--ckpt_path", path) == 0, "his YAML names it"
    del sys.modules["own_recipe"]
    del settings["model"]
    write_config(here, settings, "without.yaml")
    assert run("predict", "--config", "without.yaml", "--model", "own_recipe.Own", "--ckpt_path", path) == 0
    del sys.modules["own_recipe"]


def test_names_that_may_stand_in_a_checkpoint(here):
    class Recipe:
        def __init__(self, policy: ExitPolicy | None = None, name: str = "", anything: Any = None) -> None: ...

    fine = {"policy": {"class_path": "mebert.Entropy", "init_args": {"threshold": 0.1}}, "name": "a.b", "anything": "x"}
    check_named_classes(fine, "it", Recipe)
    check_named_classes({"policy": "mebert.policies.Entropy"}, "it", Recipe)
    for wrong in ("a.b", "./x.yaml", "{a: b}"):
        with pytest.raises(UserError, match="its setting policy is the text"):
            check_named_classes({"policy": wrong}, "it", Recipe)


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "policy"])
@pytest.mark.parametrize("path", ["evil_module.Policy", *CALLABLES, "mebert.models.MultiExitModel.from_pretrained"])
def test_a_model_folder_that_names_its_class(kind, path, evil, here):
    write_json(
        here / MODEL / "exits.json", **{kind: path if kind == "model" else {"class_path": path, "init_args": {}}}
    )
    with pytest.raises(UserError, match=f"the saved {kind} is of the class"):
        mebert.EarlyExitClassifier.from_pretrained(MODEL)


def test_a_model_folder_that_names_its_exit_predictor(evil, here):
    from safetensors.torch import save_file

    state = {"class_path": "evil_module.Predictor", "init_args": {}}
    write_json(here / MODEL / "exit_predictor.json", format=1, predictors=[state])
    save_file({"0.x": torch.zeros(1)}, here / MODEL / "exit_predictor.safetensors")
    with pytest.raises(UserError, match="the saved exit predictor is of the class"):
        mebert.EarlyExitClassifier.from_pretrained(MODEL)


@pytest.mark.parametrize("member", ["../elsewhere", "", ".", "..", "/tmp"])
def test_a_cascade_opens_no_folder_outside_its_own(member, here):
    """Members are names of folders beside the file; its own folder (`.`) would be opened without end."""
    for name in ("elsewhere", "cascade"):
        (here / name).mkdir()
    labels = {"num_labels": 2, "label_names": ["a", "b"], "exit_layers": [1, 2]}
    settings = {"model": "mebert.models.CascadeModel", **labels, "members": [member] * 2}
    (here / "cascade/exits.json").write_text(json.dumps({"format": 1, **settings}))
    with pytest.raises(UserError, match="members: it must hold names of folders beside the file"):
        mebert.MultiExitModel.from_pretrained("cascade")


@pytest.mark.parametrize(
    "data",
    [
        {"class_path": "evil_module.Data", "init_args": {}},
        {"class_path": "mebert.TextDataModule", "init_args": {"task": json.dumps(SPEC)}},
        {"class_path": "mebert.CurriculumDataModule", "init_args": {"measure": {"class_path": "evil_module.Measure"}}},
        {"class_path": "mebert.CurriculumDataModule", "init_args": {"measure": "evil_module.Measure"}},
        {"class_path": "os.system", "init_args": {"command": "true"}},
        "evil_module.Data",
    ],
    ids=str,
)
def test_a_run_whose_config_names_its_data(data, evil, here, capsys):
    """`calibrate` is given a model folder; the configuration that lies beside it was not."""
    config = yaml.safe_load((here / FOLDER / "config.yaml").read_text()) | {"data": data}
    (here / FOLDER / "config.yaml").write_text(yaml.safe_dump(config))
    assert "config.yaml" in error_of(capsys, "calibrate", "--model", MODEL, "--speedup", "1.5")


def test_names_in_the_configs_of_runs_that_are_compared_are_text(evil, here):
    config = yaml.safe_load((here / FOLDER / "config.yaml").read_text())
    config["model"] = {"class_path": "evil_module.Module", "init_args": {}}
    (here / FOLDER / "config.yaml").write_text(yaml.safe_dump(config))
    assert mebert.cli.main.main(["compare", FOLDER]) == 0


# ---- a configuration that the user gives: his own will, but held to the kinds of classes -----------------------------


@pytest.mark.parametrize(
    "given",
    [
        ["--model", "os.system"],
        ["--model", "collections.OrderedDict"],
        ["--data", "subprocess.Popen"],
        ["--model.policy", "torch.hub.load"],
        ["--model.policy", "mebert.TextDataModule"],
        ["--trainer.callbacks", "subprocess.Popen"],
        ["--trainer.logger", "os.system"],
    ],
    ids=" ".join,
)
def test_a_configuration_names_no_class_of_another_kind(given, here, marker, capsys):
    assert error_of(capsys, "fit", "--config", "tiny.yaml", *given)


def test_where_anything_may_stand_no_object_is_made(here, marker, capsys):
    spec = {"class_path": "logging.FileHandler", "init_args": {"filename": str(marker)}}  # made, it makes the file
    settings = experiment()
    settings["model"]["init_args"]["encoder_config"]["more"] = spec
    write_config(here, settings, "any.yaml")
    capsys.readouterr()
    run("fit", "--config", "any.yaml", "--trainer.fast_dev_run", "true")  # whether the encoder takes it is its own
    assert not marker.exists()
