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


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name)
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
    assert recipes["trainer"] >= {"cpu", "gpu", "ddp", "debug"}


TINY_ENCODER = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WORDS = ["a", "cat", "sat", "dog", "ran"]


@pytest.fixture
def mnli(tmp_path, monkeypatch):
    """A few rows with MNLI's columns in place of the Hub's copy, and what replaces the encoder of 110 M parameters."""
    import datasets
    from transformers import BertTokenizer

    rows = [
        {"premise": "a cat sat", "hypothesis": f"a {WORDS[i % 5]} ran", "label": i % 3, "idx": i} for i in range(40)
    ]
    splits = ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched")
    for split in splits:
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / f"{split}.parquet"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(
        "mebert.data.tasks.load_hub_dataset",
        lambda task: datasets.load_dataset(
            "parquet", data_files={split: str(tmp_path / f"{split}.parquet") for split in splits}
        ),
    )
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(tmp_path / "tokenizer")
    encoder = yaml.safe_dump({**TINY_ENCODER, "vocab_size": len(vocabulary)}, default_flow_style=True, width=1000)
    return [
        *("--model.encoder", "null", "--model.encoder_config", encoder.strip()),
        *("--data.tokenizer", str(tmp_path / "tokenizer"), "--data.max_train_samples", "16"),
    ]


@pytest.mark.parametrize("experiment", ["quickstart", "de3_mnli"])
def test_debug_overlay_tries_an_experiment_and_writes_nothing(experiment, request, tmp_path, monkeypatch, caplog):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    more = request.getfixturevalue("mnli") if experiment == "de3_mnli" else ["--data.eval_samples", "64"]
    overlay = ["--trainer", str(CONFIGS / "trainer/debug.yaml")]
    assert run("fit", "--config", str(CONFIGS / f"{experiment}.yaml"), *overlay, *more) == 0
    assert "val score" in caplog.text
    assert not list((tmp_path / "work").rglob("*"))
