"""`bench --policies`: every policy by its name, and what a model must have for it."""

import json

import pytest
import torch
from tiny import tiny_model

from mebert import Entropy, FixedExit, Stacked, UserError, policies
from mebert.cli.main import main
from mebert.commands.bench.policies import fresh_policies, trained_policies
from mebert.models import PrototypeBank
from mebert.policies import ExitPolicy

from .test_bench_command import TINY

SMALL = ["--samples", "16", "--rounds", "1", "--batch_sizes", "[4]", "--lengths", "9,4", "--max_length", "32"]
ALONE = ["--precisions", "[float32]", "--speedups", "[1.4]", "--engines", "[shrink,refill]"]
ALONE += ["--baselines", "[unsorted]", "--breakdown", "false"]


def names_that_fit():
    """The names of all policies of the package that can be measured on a model with classes."""
    named = {getattr(getattr(policies, name), "name", ExitPolicy.name) for name in policies.__all__}
    return sorted(named - {ExitPolicy.name, "change", "fixed"})


def test_all_that_fit_are_measured_on_random_weights(tmp_path):
    names = names_that_fit()
    assert {"entropy", "margin", "patience", "pcee", "f_pabee", "voting", "learned", "scaled"} <= set(names)
    assert {"stacked", "edr"} <= set(names)
    out = ["--out", str(tmp_path / "out")]
    assert main(["bench", *TINY, *SMALL, *ALONE, "--policies", f"[{','.join(names)}]", *out]) == 0
    rows = json.loads((tmp_path / "out/bench.json").read_text())["rows"]
    measured = {(row["name"], row["policy"]): row for row in rows if row["target"] is not None}
    assert set(measured) == {(engine, name) for engine in ("shrink", "refill") for name in names}
    for row in measured.values():
        assert row["speedup_flops"] == pytest.approx(1.4, rel=0.15)


def test_regression_is_measured_by_its_own(tmp_path, capsys):
    arguments = ["bench", *TINY, *SMALL, *ALONE, "--num_labels", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--policies", "[change]"]) == 0
    capsys.readouterr()
    assert main([*arguments, "--policies", "[entropy]"]) == 2
    assert "the policy 'entropy' does not fit a model with 1 label(s)" in capsys.readouterr().err


def test_what_policies_cost_is_that_of_fitted_ones():
    """Whatever is made up has the shapes of the real thing: its scores can be computed."""
    model = tiny_model()
    fresh = fresh_policies(names_that_fit(), model)
    logits, features = torch.randn(3, 5, 3), torch.randn(3, 5, model.feature_size)
    for policy in fresh:
        assert policy.score_exits(logits, features).shape == (3, 5)
    stacked = next(policy for policy in fresh if isinstance(policy, Stacked))
    (without,) = fresh_policies(["stacked"], tiny_model())
    assert len(stacked.weights) == len(without.weights) == 3
    assert len(stacked.weights[0]) == len(without.weights[0]) + 1, "the prototypes' distance is among its indicators"
    assert all(len(policy.temperatures) == 3 for policy in fresh if policy.name == "scaled")


def test_a_trained_model_measures_what_it_has(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model().save_pretrained(tmp_path / "run/model", policy=Entropy(0.4))
    common = ["bench", "--model", "run", *SMALL, *ALONE, "--policies"]
    assert main([*common, "[entropy,margin,voting,pcee]"]) == 0
    rows = json.loads((tmp_path / "bench/run/bench.json").read_text())["rows"]
    assert {"entropy", "margin"} <= {row["policy"] for row in rows if row["target"] is not None}
    capsys.readouterr()
    for name, wanted in {
        "dr": "needs prototypes, and this model has none",
        "learned": "needs a learning-to-exit head, and this model has none",
        "stacked": "is fitted to validation data, and this model was saved with 'entropy'; train one with",
        "scaled": "--model.policy mebert.TemperatureScaled",
    }.items():
        assert main([*common, f"[{name}]"]) == 2
        assert wanted in capsys.readouterr().err


def test_the_saved_policy_keeps_its_settings():
    model = tiny_model()
    (own,) = fresh_policies(["stacked"], model)
    assert trained_policies(None, model, own) == [own]
    first, second = trained_policies(["margin", "stacked"], model, own)
    assert (first.name, second) == ("margin", own)
    with pytest.raises(UserError, match="saved with no policy"):
        trained_policies(["stacked"], model, None)
    assert trained_policies(None, model, None)[0].name == "entropy"
    assert trained_policies(None, tiny_model(num_labels=1), None)[0].name == "change"


def test_a_fixed_exit_saved_with_the_model_is_not_swept():
    model = tiny_model()
    model.prototypes = PrototypeBank(2, model.feature_size, 3, dim=4)
    assert [policy.name for policy in trained_policies(["dr", "edr"], model, None)] == ["dr", "edr"]
    for names in (["fixed"], None):
        with pytest.raises(UserError, match="no speed to choose"):
            trained_policies(names, model, FixedExit(exit=2))
