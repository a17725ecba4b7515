"""A policy given to a recipe: chosen by class_path, fitted, kept in checkpoint and folder, used by `predict`."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from runs import experiment, newest, run, write_config
from tiny import tiny_config

from mebert import EarlyExitClassifier, MultiExitModule, ProtoExitModule
from mebert.metrics.curve import ExitRecord
from mebert.policies import Entropy, FixedExit, Margin, Patience, PatientEntropy, Stacked, TemperatureScaled


def make(cls=MultiExitModule, **settings):
    torch.manual_seed(0)
    return cls(**{"encoder_config": tiny_config("albert"), "num_labels": 3, **settings})


def record_for(module, samples=120):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (samples,), generator=generator)
    logits = torch.randn(4, samples, 3, generator=generator)
    logits[:, torch.arange(samples), labels] += torch.arange(4).view(-1, 1)
    features = torch.randn(4, samples, module.model.feature_size, generator=generator)
    scores = {name: policy.score_exits(logits, features) for name, policy in module.score_policies().items()}
    rows = torch.arange(samples)
    return ExitRecord(logits, labels, rows, torch.full_like(rows, 9), scores)


def test_it_takes_the_place_of_the_recipes_own_and_is_recorded():
    given = Patience(patience=3)
    module = make(policy=given)
    assert module.policy == given
    assert set(module.score_policies()) == {"entropy", "max_prob", "margin", "patience"}
    assert module.hparams["policy"] == given.spec(), "plain values, which a checkpoint can hold"
    assert make(policy=given.spec()).policy == given, "as load_from_checkpoint gives it back"
    assert make(policy=Margin(0.2), threshold=0.4).policy == Margin(0.4)
    assert make(ProtoExitModule, policy=Margin(0.2)).policy == Margin(0.2)
    assert "fixed" not in make(policy=FixedExit(exit=2)).score_policies()


@pytest.mark.parametrize("cls", [MultiExitModule, ProtoExitModule])
@pytest.mark.parametrize("given", [TemperatureScaled(policy=Entropy()), Stacked()], ids=lambda p: p.name)
def test_what_it_has_to_choose_is_chosen_before_its_threshold(cls, given):
    module = make(cls, policy=given, target_speedup=2.0)
    record = record_for(module)
    before = record.scores[given.name]
    module.choose_operating_points(record, (1.5, 2.0))
    policy = module.policy
    assert policy.temperatures if given.name == "scaled" else policy.weights
    assert not torch.allclose(record.scores[given.name], before)
    torch.testing.assert_close(record.scores[given.name], policy.score_record(record))
    assert policy.threshold == module.operating_points[given.name][2.0]
    assert module.score_policies()[given.name] is policy


def test_a_checkpoint_keeps_what_was_chosen_also_where_the_threshold_is_given():
    module = make(policy=Stacked(), threshold=0.25)
    module.choose_operating_points(record_for(module))
    assert module.policy.threshold == 0.25
    kept: dict = {}
    module.on_save_checkpoint(kept)
    other = make(policy=Stacked(), threshold=0.25)
    other.on_load_checkpoint(kept)
    assert other.policy == module.policy
    assert other.policy.weights


@pytest.mark.slow
def test_through_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = experiment()
    settings["curve"]["wall_samples"] = 0
    settings["model"]["init_args"]["policy"] = {
        "class_path": "mebert.TemperatureScaled",
        "init_args": {"policy": {"class_path": "mebert.PatientEntropy", "init_args": {"patience": 1}}},
    }
    config = str(write_config(tmp_path, settings))
    assert run("fit", "--config", config) == 0
    folder = newest(tmp_path)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert set(evaluation["operating_points"]) == {"scaled", "entropy"}
    assert {"acc", "ece"} <= set(evaluation["exits"][0])
    classifier = EarlyExitClassifier.from_pretrained(folder, precision="float32")
    policy = classifier.policy
    assert len(policy.temperatures) == 3
    assert policy.policy.patience == 1
    module = ProtoExitModule.load_from_checkpoint(folder / "checkpoints/best.ckpt")
    assert module.policy == policy
    capsys.readouterr()
    saved = ["--config", str(folder / "config.yaml"), "--ckpt_path", "best"]
    assert run("predict", *saved, "--predictions.path", "out.csv", "--predictions.speedup", "1.5") == 0
    assert "the checkpoint's" not in capsys.readouterr().out
    with open("out.csv") as file:
        exits = [int(row["exit"]) for row in csv.DictReader(file)]
    assert len(exits) == 41
    assert set(exits) <= {1, 2, 3}


def test_stacked_reads_prototypes_that_are_fitted_for_the_comparison(tmp_path, monkeypatch):
    """They are made after the policy: it must know of them before it is fitted."""
    monkeypatch.chdir(tmp_path)
    inner = {"policy": {"class_path": "mebert.Stacked"}}
    settings = experiment(policy={"class_path": "mebert.TemperatureScaled", "init_args": inner})
    settings["model"]["class_path"] = "mebert.MultiExitModule"
    del settings["model"]["init_args"]["prototype_dim"]
    settings["trainer"]["max_epochs"] = 1
    settings["curve"] |= {"wall_samples": 0, "fit_indicators": True}
    assert run("fit", "--config", str(write_config(tmp_path, settings))) == 0
    saved = EarlyExitClassifier.from_pretrained(newest(tmp_path)).policy
    assert {len(row) for row in saved.policy.weights} == {6}, "DR among them"


def test_a_further_validation_split_is_scored_with_what_the_first_one_chose():
    module = make(policy=PatientEntropy(patience=3, patience_grid=(1,)))
    first, second = record_for(module), record_for(module, samples=30)
    before = second.scores["pcee"]
    module.choose_operating_points(first)
    module.rescore(second)
    assert module.policy.patience == 1
    assert not torch.equal(second.scores["pcee"], before)
    torch.testing.assert_close(second.scores["pcee"], Entropy().score_exits(second.logits, second.logits))
