"""Every YAML that is shipped is accepted by the real parser, and the overlays work with any experiment."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from runs import run

from mebert.cli.main import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OTHER = ("trainer", "logger", "study", "sweeps")
EXPERIMENTS = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in OTHER)
OVERLAYS = sorted([*CONFIGS.glob("trainer/*.yaml"), *CONFIGS.glob("logger/*.yaml")])


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix().replace("/", "_")


def printed_config(args: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    with pytest.raises(SystemExit) as stop:
        main([*args, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


SOME = [path if n % 4 == 0 else pytest.param(path, marks=pytest.mark.slow) for n, path in enumerate(EXPERIMENTS)]


@pytest.mark.parametrize("path", SOME, ids=name)
def test_experiment(path, capsys):
    """It parses, its runs go to a folder named after the file, and its header shows the command."""
    config = printed_config(["fit", "--config", str(path)], capsys)
    assert config["experiment"] == name(path)
    assert config["model"]["class_path"].startswith("mebert.")
    command = f"#   python -m mebert fit --config configs/{path.relative_to(CONFIGS).as_posix()}"
    assert command in path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("path", OVERLAYS, ids=name)
def test_overlay(path, capsys):
    option = "--trainer" if path.parent.name == "trainer" else "--config"
    config = printed_config(["fit", "--config", str(CONFIGS / "de3/rte.yaml"), option, str(path)], capsys)
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in given.items() if option == "--trainer" else ():
        assert config["trainer"][key] == value
    if option == "--config":
        assert config["trainer"]["logger"]["class_path"].endswith("WandbLogger")
    assert config["trainer"]["max_epochs"] == 10, "an overlay leaves the experiment's own settings alone"


def test_which_experiments_are_there():
    recipes = {path.name: {file.stem for file in path.glob("*.yaml")} for path in CONFIGS.iterdir() if path.is_dir()}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"quickstart", "de3_mnli"}
    assert recipes["de3"] >= {"rte", "mrpc", "sst2", "qnli", "qqp", "snli", "minilm_mnli", "minilm_sst2"}
    assert recipes["cd"] >= {"snli", "scitail", "rte", "mnli", "qnli", "wikiqa", "trecqa", "minilm_wikiqa"}
    assert len({task for task in recipes["geep"] if not task.startswith("minilm")}) == 12, "the paper's data sets"
    for recipe in ("berxit", "deebert", "elasticbert", "fastbert", "gpfee", "learned_weights", "pabee", "romebert"):
        assert "minilm_sst2" in recipes[recipe]
    assert recipes["recommended"] == {f"minilm_{task}" for task in ("snli", "sst2", "qqp", "ag_news", "imdb")}
    assert recipes["trainer"] >= {"cpu", "gpu", "ddp", "debug"}


CLIPPED = {"berxit", "deebert", "elasticbert", "geep", "gpfee", "pabee", "romebert"}


def test_gradients_are_clipped_where_the_original_does():
    for path in EXPERIMENTS:
        config, recipe = yaml.safe_load(path.read_text(encoding="utf-8")), path.parent.name
        assert config["trainer"].get("gradient_clip_val") == (1.0 if recipe in CLIPPED else None), path
        settings = config["model"]["init_args"]
        if recipe == "geep":
            assert (settings["warmup_ratio"], settings["weight_decay"]) == (0.1, 1e-4), path


@pytest.mark.slow
def test_debug_overlay_tries_an_experiment_and_writes_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    overlay = ["--trainer", str(CONFIGS / "trainer/debug.yaml"), "--data.eval_samples", "64"]
    assert run("fit", "--config", str(CONFIGS / "quickstart.yaml"), *overlay) == 0
    assert "val score" in caplog.text
    assert not list(tmp_path.rglob("*"))
