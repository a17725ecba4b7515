"""Each recipe of the family through the command line: trained, tested, saved, opened again."""

from __future__ import annotations

import json

import pytest
import torch
from runs import experiment, newest, run, write_config

from mebert.inference.classifier import EarlyExitClassifier

RULES = {
    "PABEEModule": "patience",
    "ElasticBERTModule": "entropy",
    "BERxiTModule": "learned",
    "RomeBERTModule": "entropy",
    "GPFEEModule": "entropy",
    "LearnedWeightsModule": "entropy",
}


@pytest.mark.parametrize("recipe", RULES)
def test_fit_test_save_and_predict(tmp_path, monkeypatch, recipe):
    monkeypatch.chdir(tmp_path)
    settings = experiment(target_speedup=1.2)
    settings["model"]["class_path"] = f"mebert.{recipe}"
    del settings["model"]["init_args"]["prototype_dim"]
    settings["trainer"]["max_epochs"] = 1
    settings["curve"] |= {"wall_samples": 0}
    write_config(tmp_path, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    folder = newest(tmp_path)
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    saved = json.loads((folder / "model" / "exits.json").read_text(encoding="utf-8"))
    rule = best["mebert"]["policy"]
    assert saved["policy"] == rule
    assert RULES[recipe] in best["mebert"]["operating_points"]
    classify = EarlyExitClassifier.from_pretrained(str(folder / "model"))
    assert classify.policy.name == RULES[recipe]
    answers = classify([("all a are b", "some a are b"), ("no a is b", "some a are b")])
    assert all(1 <= answer.exit <= 3 for answer in answers)
    config = str(folder / "config.yaml")
    assert run("predict", "--config", config, "--ckpt_path", "best", "--predictions.path", "out.csv") == 0
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 42
