"""Exit predictors through the command line: made after training, kept, reported, found again."""

import contextlib
import io
import json

import pytest
import torch
import yaml
from runs import experiment, newest, run, write_config

from mebert import EarlyExitClassifier, MultiExitModel, TokenExitPredictor
from mebert.data import SyntheticEntailmentDataModule
from mebert.exit_predictor import choose_predictor, load_predictors, score_rows
from mebert.metrics.curve import replay, speedup_layers
from mebert.policies.stored_thresholds import load_policy
from mebert.storage.checkpoints import read_checkpoint


def settings_of(**more):
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    settings["curve"]["wall_samples"] = 0
    settings["exit_prediction"] = {"kind": "token", **more}
    return settings


def data_of(folder):
    """The data of a run, ready for training."""
    data = SyntheticEntailmentDataModule(**yaml.safe_load((folder / "config.yaml").read_text())["data"]["init_args"])
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicting")
    write_config(folder, settings_of(max_rows=50))
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        assert run("fit", "--config", "tiny.yaml") == 0
    return folder / "runs/tiny/version_0", out.getvalue()


def test_the_report_says_how_well_exits_are_predicted(trained):
    run_dir = trained[0]
    assert "Predicted exits against those that the policy takes" in (run_dir / "report.md").read_text()
    written = json.loads((run_dir / "evaluation.json").read_text())
    reports = written["exit_prediction"]
    points = {point["target"]: point for point in written["operating_points"]["edr"]}
    points[None] = written["operating_point"]
    thresholds = [found["origin"]["threshold"] for found in reports]
    assert len(set(thresholds)) == len(thresholds), "targets may share a threshold, and then a predictor"
    assert {min(point["threshold"], 1.0) for point in points.values()} <= set(thresholds)
    for found in reports:
        assert found["samples"] == 41
        assert found["origin"]["rows"] == 50
        assert found["under"] + found["exact"] + found["over"] == pytest.approx(1.0)
        assert found["metric_full"] == pytest.approx(written["exits"][-1]["acc"])
        point = points[found["origin"]["speedup"]]
        assert found["metric_taken"] == pytest.approx(point["metric"])
        assert found["speedup_taken"] == pytest.approx(point["speedup_layers"])


def test_predictors_are_in_the_checkpoint_and_in_the_model_folder(trained):
    folder = trained[0]
    best = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["mebert"]
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["mebert"]
    loaded = load_predictors(folder / "model")
    assert "exit_predictors" not in last
    assert len(loaded) == len(best["exit_predictors"]) >= 2
    model = MultiExitModel.from_pretrained(folder / "model")
    policy = load_policy(folder / "model", model)
    own = choose_predictor(loaded, policy)
    assert isinstance(own, TokenExitPredictor)
    assert own.origin.threshold == policy.threshold
    assert 0 < own.coverage <= 1
    for threshold in best["operating_points"]["edr"].values():
        found = choose_predictor(loaded, policy.with_threshold(min(threshold, 1.0)))
        assert found.origin.threshold == min(threshold, 1.0)


def test_the_exits_learnt_are_those_of_the_best_checkpoint(trained):
    """Recomputed from the checkpoint alone: the global shares of the exits over all rows counted."""
    folder = trained[0]
    model = MultiExitModel.from_pretrained(folder / "model")
    policy = load_policy(folder / "model", model)
    data = data_of(folder)
    own = choose_predictor(load_predictors(folder / "model"), policy)
    taken = replay(score_rows(model, policy, data.split("train")).scores, policy.threshold)
    assert int(own.exits.sum()) == 50
    assert set(own.exits.nonzero().squeeze(1).tolist()) <= set(taken.tolist())


def test_test_again_finds_them_by_the_checkpoint(trained, here, capsys):
    run_dir = trained[0]
    written = json.loads((run_dir / "evaluation.json").read_text())["exit_prediction"]
    checkpoint = str(run_dir / "checkpoints/best.ckpt")
    assert run("test", "--config", str(run_dir / "config.yaml"), "--ckpt_path", checkpoint, "--verbose") == 0
    assert "Predicted exits" in capsys.readouterr().out
    again = json.loads((newest(here) / "evaluation.json").read_text())["exit_prediction"]
    assert again == written


def test_going_on_from_such_a_checkpoint_leaves_old_predictors_behind(trained, monkeypatch, tmp_path):
    home = trained[0].parents[2]
    monkeypatch.chdir(home)
    settings = settings_of()
    settings["exit_prediction"]["kind"] = None
    settings["trainer"]["max_epochs"] = 2
    settings["test_after_fit"] = False
    best, last = (read_checkpoint(trained[0] / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    last["mebert"]["exit_predictors"] = best["mebert"]["exit_predictors"]
    torch.save(last, checkpoint := tmp_path / "last.ckpt")
    assert run("fit", "--config", str(write_config(tmp_path, settings)), "--ckpt_path", str(checkpoint)) == 0
    run_dir = newest(home)
    assert run_dir != trained[0]
    assert not (run_dir / "model/exit_predictor.json").exists()
    content = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)
    assert (content["epoch"], "exit_predictors" in content["mebert"]) == (1, False)


def test_linear_on_the_validation_split_without_a_test(here):
    settings = settings_of(kind="linear", split="val", coverage=None)
    settings["test_after_fit"] = False
    settings["model"] = experiment("MultiExitModule", threshold=0.9)["model"]
    assert run("fit", "--config", str(write_config(here, settings))) == 0
    loaded = load_predictors(newest(here) / "model")
    assert {found.origin.split for found in loaded} == {"val"}
    assert {found.origin.rows for found in loaded} == {41}
    assert loaded[0].origin.threshold == 0.9
    assert loaded[0].coverage is None


def test_nothing_is_made_unless_asked_for(trained_run):
    assert "Predicted exits" not in (trained_run.parent / "printed.txt").read_text()
    assert not (newest(trained_run) / "model/exit_predictor.json").exists()
    assert json.loads((newest(trained_run) / "evaluation.json").read_text())["exit_prediction"] == []


def test_wrong_settings_are_told_in_one_line(here, capsys):
    given = ["--exit_prediction.kind", "linear", "--exit_prediction.ngram", "2"]
    assert run("fit", "--config", str(write_config(here)), *given) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mebert: error:")
    assert "ngram 2 belongs to kind token" in error


def test_predict_runs_each_row_to_the_exit_predicted_for_it(trained, here):
    run_dir, _ = trained
    args = ["predict", "--config", str(run_dir / "config.yaml"), "--ckpt_path", str(run_dir / "checkpoints/best.ckpt")]
    tables = {}
    for engine in ("predicted", "full"):
        assert run(*args, "--predictions.path", f"{engine}.jsonl", "--predictions.engine", engine) == 0
        tables[engine] = [json.loads(line) for line in (here / f"{engine}.jsonl").read_text().splitlines()]
    predicted = tables["predicted"]
    assert [row["index"] for row in predicted] == [row["index"] for row in tables["full"]]

    model = MultiExitModel.from_pretrained(run_dir / "model")
    predictor = choose_predictor(load_predictors(run_dir / "model"), load_policy(run_dir / "model", model)).bind(model)
    classify = EarlyExitClassifier.from_pretrained(run_dir, device="cpu", precision="float32")
    pairs = [(row["premise"], row["hypothesis"]) for row in predicted]
    inputs = classify.tokenizer(*zip(*pairs, strict=True), padding=True, return_tensors="pt")
    exits = predictor.predict(inputs["input_ids"], inputs["attention_mask"])
    assert [row["exit"] for row in predicted] == (exits + 1).tolist()
    with torch.no_grad():
        labels = model(**inputs).logits[exits, torch.arange(len(exits))].argmax(-1)
    assert [row["label"] for row in predicted] == [model.label_names[label] for label in labels]
    assert [a.label for a in classify(pairs, engine="predicted")] == [row["label"] for row in predicted]


@pytest.mark.slow
def test_static_exits_are_as_fast_as_the_stored_speedups_and_run_nothing(here, caplog):
    write_config(here, settings_of(kind="static"))
    assert run("fit", "--config", "tiny.yaml") == 0
    assert "exit prediction: static predictors for" in caplog.text
    assert "running the best checkpoint" not in caplog.text
    folder = newest(here)
    found = load_predictors(folder / "model")
    assert {type(predictor).__name__ for predictor in found} == {"FrequencyExitPredictor"}
    reports = json.loads((folder / "evaluation.json").read_text())["exit_prediction"]
    assert [report["origin"]["rows"] for report in reports] == [96] * len(found)
    own = json.loads((folder / "model/exits.json").read_text())["policy"]["init_args"]["threshold"]
    assert own in [predictor.origin.threshold for predictor in found]
    data = data_of(folder)
    rows = data.collate_for()(list(data.split("val")))
    assert len({predictor.coverage for predictor in found}) >= 2
    for predictor in found:
        exits = predictor.predict(rows["input_ids"], rows["attention_mask"])
        assert speedup_layers(exits, (1, 2, 3)) >= (predictor.origin.speedup or 1.0)
    arguments = ["--config", "tiny.yaml", "--ckpt_path", "best", "--engine", "predicted", "--out", "static.jsonl"]
    assert run("predict", *arguments) == 0
    assert (here / "static.jsonl").stat().st_size > 0


@pytest.mark.slow
def test_static_exits_for_a_given_threshold_are_as_fast_as_the_policy_is(here, caplog):
    settings = settings_of(kind="static", max_rows=60)
    settings["model"]["init_args"]["threshold"] = 0.97
    settings["test_after_fit"] = False
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    assert "running the best checkpoint" not in caplog.text, "its speed is known from the validation pass"
    found = load_predictors(newest(here) / "model")
    own = next(predictor for predictor in found if predictor.origin.threshold == 0.97)
    assert own.origin.speedup is None
    assert 0 < own.coverage <= 1
    assert {predictor.origin.rows for predictor in found} == {60}
