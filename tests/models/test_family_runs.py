"""Every encoder family through the command line: fit with its test, test again, predict, and the saved model opened."""

import json

import pytest
from runs import experiment, newest, run, write_config, write_rows
from tiny import SIZES, tiny_config
from transformers import AutoConfig

from mebert import EarlyExitClassifier
from mebert.cli.main import main

pytestmark = pytest.mark.slow
TEXTS = [("anna can run", "ben can run  anna cannot dive"), ("nobody sees anything", "anna sees owls")]


@pytest.mark.parametrize("family", SIZES)
def test_fit_test_predict_and_open(family, here, capsys):
    kinds = {"type_vocab_size": 2} if hasattr(AutoConfig.for_model(family), "type_vocab_size") else {}
    settings = experiment(encoder_config=tiny_config(family, **{**kinds, "vocab_size": 80}))
    settings["curve"]["wall_samples"] = 0
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0, capsys.readouterr().err
    folder = newest(here)
    tested = json.loads((folder / "evaluation.json").read_text())
    assert run("test", str(folder)) == 0, capsys.readouterr().err
    again = json.loads((newest(here) / "evaluation.json").read_text())
    assert again["area_under_curve"] == tested["area_under_curve"]
    file = write_rows(here / "texts.jsonl", [{"premise": a, "hypothesis": b} for a, b in TEXTS * 6])
    tables = []
    for engine in ("full", "shrink", "refill"):
        words = ["predict", str(folder), file, "--engine", engine, "--out", f"{engine}.jsonl"]
        assert main(words) == 0, capsys.readouterr().err
        rows = [json.loads(line) for line in (here / f"{engine}.jsonl").read_text().splitlines()]
        tables.append([(row["label"], row["exit"]) for row in rows])
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == 12
    classify = EarlyExitClassifier.from_pretrained(folder / "model", precision="float32")
    assert classify.model.encoder.config.model_type == family
    assert classify(TEXTS, speedup=1.5, engine="full") == classify(TEXTS, speedup=1.5)
