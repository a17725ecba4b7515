"""Every YAML that is shipped is taken by the real parser."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mebert.cli.main import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
EXPERIMENTS = sorted(CONFIGS.glob("*.yaml"))
FAMILY = ("pabee", "elasticbert", "deebert", "berxit", "romebert", "gpfee", "learned_weights")
OVERLAYS = sorted([*CONFIGS.glob("trainer/*.yaml"), *CONFIGS.glob("logger/*.yaml")])


def printed_config(args: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    with pytest.raises(SystemExit) as stop:
        main([*args, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment(path, capsys):
    config = printed_config(["fit", "--config", str(path)], capsys)
    assert config["experiment"] == path.stem
    assert config["model"]["class_path"].startswith("mebert.")


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_header_tells_the_command(path):
    assert f"#   python -m mebert fit --config configs/{path.name}" in path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlay(path, capsys):
    option = "--trainer" if path.parent.name == "trainer" else "--config"
    config = printed_config(["fit", "--config", str(CONFIGS / "de3_rte.yaml"), option, str(path)], capsys)
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in given.items() if option == "--trainer" else ():
        assert config["trainer"][key] == value
    if option == "--config":
        assert config["trainer"]["logger"]["class_path"].endswith("WandbLogger")
    assert config["trainer"]["max_epochs"] == 10, "an overlay leaves the experiment's own settings alone"


def test_all_asked_for_are_there():
    wanted = {f"de3_{task}" for task in ("mnli", "rte", "mrpc", "sst2", "qnli", "qqp", "snli")}
    wanted |= {f"de3_minilm_{task}" for task in ("mnli", "snli", "sst2", "mrpc")}
    wanted |= {f"cd_{task}" for task in ("snli", "scitail", "rte", "mnli", "qnli", "wikiqa", "trecqa")}
    wanted |= {f"cd_minilm_{task}" for task in ("rte", "snli", "mrpc", "wikiqa")}
    chinese = ("chnsenticorp", "book_review", "shopping_review", "weibo", "thucnews", "lcqmc")
    english = ("ag_news", "amazon_full", "dbpedia", "yahoo", "yelp_full", "yelp_polarity")
    wanted |= {f"geep_{task}" for task in (*chinese, *english)}
    wanted |= {f"geep_minilm_{task}" for task in ("ag_news", "sst2", "imdb", "book_review")}
    wanted |= {f"fastbert_minilm_{task}" for task in ("ag_news", "sst2")}
    wanted |= {f"{recipe}_minilm_sst2" for recipe in FAMILY}
    assert wanted <= {path.stem for path in EXPERIMENTS}
    assert {path.stem for path in OVERLAYS} >= {"cpu", "gpu", "ddp", "wandb"}
