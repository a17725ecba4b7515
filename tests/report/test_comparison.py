"""Every policy on one model: fitted on the validation pass, compared on another at equal speed; and passes as files."""

import json

import numpy as np
import pytest
import torch
from runs import QUIET, experiment, newest, run, write_config
from sklearn.linear_model import LogisticRegression
from tiny import tiny_model

from mebert import SyntheticEntailmentDataModule
from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord, replay, speedup_layers
from mebert.metrics.record_files import load_record, save_record
from mebert.models import MultiExitModel, model_inputs
from mebert.models.exit_scorer import fit_exit_scorer
from mebert.policies import Entropy, FixedExit, Patience
from mebert.report.comparison import best_policy, compare_policies, family
from mebert.report.evaluation import PolicyResult
from mebert.storage.checkpoints import read_checkpoint

EVERY = {"entropy", "max_prob", "margin", "patience", "pcee", "f_pabee", "voting", "scaled", "stacked"}


def record_of(samples, seed, own=None):
    """Exits of growing skill that are sure of themselves in different ways."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (samples,), generator=generator)
    logits = torch.randn(3, samples, 3, generator=generator)
    logits[:, torch.arange(samples), labels] += torch.tensor([0.5, 1.0, 2.0]).view(-1, 1)
    logits = logits * torch.tensor([9.0, 1.0, 0.3]).view(-1, 1, 1)
    rows = torch.arange(samples)
    record = ExitRecord(logits, labels, rows, torch.full_like(rows, 9))
    for policy in own or ():
        record.scores[policy.name] = policy.score_record(record)
    return record


def accuracy(record, exits):
    return float((record.logits_at(exits).argmax(-1) == record.labels).float().mean())


def test_each_is_fitted_on_validation_data_and_told_at_equal_speed():
    model, own = tiny_model(), Entropy(0.3)
    record, validation = record_of(400, 1, [own]), record_of(300, 2, [own])
    results = compare_policies(model, record, "acc", (1.0, 1.5, 2.0), own, validation)
    assert set(results) == EVERY
    assert results["entropy"].policy is own
    scaled = results["scaled"].policy
    assert scaled == scaled.fitted(validation), "the temperatures of validation data"
    assert scaled.temperatures[0] > 3 > scaled.temperatures[2]
    for name, result in results.items():
        assert result.at[1.0] == pytest.approx(accuracy(record, torch.full((400,), 2))), "1x is the last exit"
        assert {p.policy for p in result.curve} == {name}
    # Entropy has no equal scores, so that the coin decides a row at most: a threshold gives the speed.
    scores = record.scores["entropy"]
    for threshold in scores[:-1].flatten().tolist():
        exits = replay(scores, threshold)
        if abs(speedup_layers(exits, [1, 2, 3]) - 2.0) < 2e-3:
            assert results["entropy"].at[2.0] == pytest.approx(accuracy(record, exits), abs=1 / 200)
            break
    else:
        raise AssertionError("no threshold gives 2x")
    assert best_policy(results) == max(results, key=lambda name: results[name].val_area)
    assert "scaled" not in validation.scores, "the pass of the checkpoint is left as it is"


def test_where_many_scores_are_equal_a_coin_gives_the_speed():
    model, own = tiny_model(), Patience(patience=1)
    record = record_of(500, 3, [own])
    result = compare_policies(model, record, "acc", (1.1, 2.0), own)["patience"]
    assert result.val_area is None
    # All leave at exit 3, or those that agree twice leave at exit 2.
    exits = replay(record.scores["patience"], 1.0)
    assert set(exits.tolist()) == {1, 2}
    fast, slow = speedup_layers(exits, [1, 2, 3]), 1.0
    assert fast > 1.1
    share = (1 / 1.1 - 1 / fast) / (1 / slow - 1 / fast)
    by_hand = share * accuracy(record, torch.full((500,), 2)) + (1 - share) * accuracy(record, exits)
    assert result.at[1.1] == pytest.approx(by_hand)
    assert result.at[2.0] is None, "nobody leaves at exit 1"


def test_what_is_asked_for_and_what_fits():
    model, own = tiny_model(), Entropy()
    record = record_of(60, 1, [own])
    names = ["voting", "entropy"]
    assert list(compare_policies(model, record, "acc", (2.0,), own, names=names)) == names
    with pytest.raises(UserError, match=r"curve\.policies: dr, nonsense cannot be compared .* choose of entropy, "):
        compare_policies(model, record, "acc", (2.0,), own, names=["dr", "entropy", "nonsense"])
    assert set(compare_policies(model, record, "acc", (2.0,), FixedExit(exit=2))) == EVERY, "a fixed exit has no curve"
    assert set(family(tiny_model(num_labels=1))) == {"change"}
    assert best_policy({"a": PolicyResult(own, [], 0.5, None, {})}) is None


def test_a_pass_written_and_read_is_the_same(tmp_path):
    record = record_of(20, 1, [Entropy(), Patience()])
    record.queries, record.predicted = torch.arange(20) // 5, [torch.ones(20).long(), torch.zeros(20).long()]
    save_record(record, tmp_path / "outputs.safetensors", {"split": "test", "exit_layers": [1, 2, 3]})
    again, about = load_record(tmp_path / "outputs.safetensors")
    assert about == {"split": "test", "exit_layers": [1, 2, 3]}
    torch.testing.assert_close(vars(again), vars(record))


def test_through_the_command_line_for_a_recipe_that_trains_no_prototypes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = experiment("PABEEModule")
    settings["curve"] |= {"wall_samples": 0, "fit_indicators": True}
    config = str(write_config(tmp_path, settings))
    assert run("fit", "--config", config, *QUIET) == 0
    folder = newest(tmp_path)
    assert "Policies on this model" in (folder / "report.md").read_text(encoding="utf-8")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert set(evaluation["policies"]) == EVERY | {"dr", "edr", "learned"}
    assert evaluation["best_policy"] in evaluation["policies"]
    assert set(evaluation["policies"]["edr"]["at"]) == {"1", "1.2", "1.5", "2"}
    record, about = load_record(folder / "outputs.safetensors")
    assert set(record.scores) >= EVERY | {"dr", "edr", "learned"}
    assert (about["policy"], about["exit_layers"], len(record.labels)) == ("patience", [1, 2, 3], 41)
    bank = MultiExitModel.from_pretrained(folder / "model").prototypes
    assert bool(bank.seen.all())

    # Another command asks the checkpoint about a policy that training did not know.
    again = ["test", "--config", str(folder / "config.yaml"), "--ckpt_path", "best", *QUIET]
    assert run(*again, "--curve.policies", "[stacked,edr]") == 0
    other = json.loads((newest(tmp_path) / "evaluation.json").read_text())
    assert other["policies"] == {name: evaluation["policies"][name] for name in ("stacked", "edr")}
    assert run(*again, "--curve.policies", "[nonsense]") == 2
    assert "nonsense cannot be compared" in capsys.readouterr().err


def test_a_head_that_learns_to_exit_is_fitted_to_where_exits_are_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment(policy={"class_path": "mebert.LearnedToExit"})
    settings["curve"]["wall_samples"] = 0
    # So that two classes differ by more than rounding, which another size of batches may do otherwise.
    settings["model"]["init_args"]["encoder_config"]["initializer_range"] = 0.2
    assert run("fit", "--config", str(write_config(tmp_path, settings)), *QUIET) == 0
    model = MultiExitModel.from_pretrained(newest(tmp_path) / "model")
    data = SyntheticEntailmentDataModule(**settings["data"]["init_args"])
    data.setup("fit")
    rows = data.split("train")
    batch = data.collate_for()([rows[i] for i in range(len(rows))])
    with torch.no_grad():
        out = model(**model_inputs(batch))
    wrong = (out.logits.argmax(-1) != batch["labels"]).flatten().numpy()
    oracle = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit(out.features.flatten(0, 1).double().numpy(), wrong)
    torch.testing.assert_close(model.exit_scorer.weight, torch.tensor(oracle.coef_).float(), atol=1e-3, rtol=1e-2)


def test_in_a_regression_it_is_fitted_to_how_wrong_exits_are():
    generator = torch.Generator().manual_seed(0)
    features, targets = torch.randn(3, 50, 16, generator=generator), torch.randn(50, generator=generator)
    logits = torch.randn(3, 50, 1, generator=generator)
    targets[7] = float("nan")
    fitted = fit_exit_scorer(features, logits, targets)
    kept = [n for n in range(50) if n != 7]
    wrong = (logits[:, kept, 0] - targets[kept]).abs().tanh().flatten().numpy()
    # A share t of a row that is wrong, and 1 - t of the same row that is right.
    twice, says = features[:, kept].flatten(0, 1).numpy().repeat(2, 0), [True, False] * len(wrong)
    oracle = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8)
    oracle.fit(twice, says, sample_weight=np.stack([wrong, 1 - wrong], 1).flatten())
    torch.testing.assert_close(fitted.weight, torch.tensor(oracle.coef_).float(), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(fitted.bias, torch.tensor(oracle.intercept_).float(), atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_a_policy_that_reads_prototypes_brings_its_own(tmp_path, monkeypatch):
    """Also where the last epochs train without them: FastBERT's second stage."""
    monkeypatch.chdir(tmp_path)
    policy = {"class_path": "mebert.HybridDistanceEntropy", "init_args": {"lam_grid": [0.5, 2.0]}}
    settings = experiment("FastBERTModule", stage1_epochs=1, policy=policy)
    settings["curve"]["wall_samples"] = 0
    assert run("fit", "--config", str(write_config(tmp_path, settings)), *QUIET) == 0
    folder = newest(tmp_path)
    kept = read_checkpoint(folder / "checkpoints/best.ckpt")
    assert kept["mebert"]["policy"]["init_args"]["lam"] in (0.5, 2.0)
    assert kept["state_dict"]["model.prototypes.seen"].all()
    # Not trained: the network is the one that whitens the features, a symmetric matrix.
    weight = kept["state_dict"]["model.prototypes.weight"]
    torch.testing.assert_close(weight, weight.mT, atol=1e-3, rtol=1e-3)
    saved = ["--config", str(folder / "config.yaml"), "--ckpt_path", "best", *QUIET]
    assert run("predict", *saved, "--predictions.path", "out.csv", "--predictions.speedup", "1.5") == 0
    assert run("fit", *saved[:3], str(folder / "checkpoints/last.ckpt"), *QUIET, "--trainer.max_epochs", "3") == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 42
