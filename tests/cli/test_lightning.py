"""The command line from end to end, on a tiny model and the built-in task."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from runs import experiment, newest, run, run_process, write_config

from mebert import MultiExitModel
from mebert.policies.stored_thresholds import load_policy
from mebert.storage.checkpoints import read_checkpoint

BEST = "runs/tiny/version_0/checkpoints/best.ckpt"
PREDICT = ("predict", "--config", "tiny.yaml", "--ckpt_path", BEST)


def rows_of(path):
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_fit_leaves_everything_in_one_folder(trained_run):
    run_dir = trained_run / "runs/tiny/version_0"
    files = {path.name for path in run_dir.iterdir()}
    assert files >= {"config.yaml", "metrics.csv", "checkpoints", "curve.csv", "curve.png", "evaluation.json", "model"}
    assert {path.name for path in (run_dir / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in trained_run.iterdir()} == {"tiny.yaml", "runs"}, "nothing is written elsewhere"


def test_fit_ends_with_a_short_summary(trained_run):
    out = trained_run.with_name("printed.txt").read_text(encoding="utf-8")
    assert len(out.splitlines()) <= 25
    evaluation = json.loads((trained_run / "runs/tiny/version_0/evaluation.json").read_text())
    rows = {line[2:12].strip(): line[12:].split() for line in out.splitlines()}
    full, current = evaluation["full_model"], evaluation["operating_point"]
    assert full["metric"] == evaluation["exits"][-1]["acc"]
    assert rows["full model"] == [f"{full['metric']:.4f}", "{:.4f}-{:.4f}".format(*full["interval"])]
    points = {"in use": current} | {f"edr {p['target']:g}x": p for p in evaluation["operating_points"]["edr"]}
    assert set(points) == {"in use", "edr 1.2x", "edr 1.5x", "edr 2x"}
    for name, point in points.items():
        drop = full["metric"] - point["metric"]
        wanted = [f"{point['metric']:.4f}", "{:.4f}-{:.4f}".format(*point["interval"]), f"{drop:.4f}"]
        assert rows[name][:4] == [*wanted, f"{point['speedup_flops']:.2f}x"]
        wall = point["speedup_wall"]
        assert rows[name][4] == ("-" if wall is None else f"{wall:.2f}x"), "the point in use is timed, too"
    saved = out[out.index("Saved:") : out.index("Next:")]
    for path in re.findall(r"runs/\S+", saved):
        assert (trained_run / path).exists()
    assert len(re.findall(r"python -m mebert .*", out)) == 2


TITLES = (
    "Exits: every",
    "Per class",
    "Confusion matrix",
    "Accuracy-speed",
    "Policies on",
    "Where easy",
    "Model: Proto",
)


@pytest.mark.slow
def test_all_other_tables_are_in_the_report_and_printed_on_request(in_trained_run, capsys):
    report = (in_trained_run / "runs/tiny/version_0/report.md").read_text(encoding="utf-8")
    assert all(f"## {title}" in report for title in TITLES)
    assert "](curve.png)" in report
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", BEST) == 0
    out = capsys.readouterr().out
    assert not [title for title in TITLES if title in out]
    assert len(out.splitlines()) <= 25
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", BEST, "--verbose") == 0
    out = capsys.readouterr().out
    assert [title for title in TITLES if title in out] == list(TITLES)
    assert run("test", "--config", f"{newest(in_trained_run)}/config.yaml", "--verbose", "false") == 0
    assert "Exits: every" not in capsys.readouterr().out, "a configuration that was saved can be run again"
    assert run("validate", "--config", "tiny.yaml", "--ckpt_path", BEST, "--verbose") == 0
    assert "Exits: every sample leaves there (val, 41 samples)" in capsys.readouterr().out


def test_without_a_test_the_summary_is_of_validation_data(here, capsys):
    assert run("fit", "--config", str(write_config(here)), "--test_after_fit", "false") == 0
    out = capsys.readouterr().out
    assert "Operating points (val, 41 samples)" in out
    assert "in use" in out
    assert "## Per class (val)" in (newest(here) / "report.md").read_text(encoding="utf-8")


NOTICES = (
    "GPU available",
    "TPU available",
    "Seed set",
    "Loading `train",
    "`Trainer.fit` stopped",
    "Restoring",
    "Loaded",
)


@pytest.mark.slow
def test_no_notices_that_help_nobody(tmp_path):
    write_config(tmp_path)
    done = run_process("fit", "--config", "tiny.yaml", "--curve.wall_samples", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert not [notice for notice in NOTICES if notice in said]
    lines = done.stderr.strip().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Model", "epoch 1/2", "epoch 2/2"]
    assert len(done.stdout.splitlines()) <= 25


def test_evaluation_json(trained_run):
    evaluation = json.loads((trained_run / "runs/tiny/version_0/evaluation.json").read_text())
    assert evaluation["samples"] == 41
    assert [row["exit"] for row in evaluation["exits"]] == [1, 2, 3]
    assert evaluation["exits"][-1]["speedup_layers"] == 1.0
    assert set(evaluation["operating_points"]) == {"edr", "entropy"}
    point = evaluation["operating_points"]["edr"][0]
    assert point["target"] == 1.2
    low, high = point["speedup_wall_range"]
    assert low <= (point["speedup_wall"] or high) <= high
    assert {row["group"] for row in evaluation["leaving"]} == {"1", "2", "3", "4", "all"}
    assert evaluation["checkpoint"].endswith("best.ckpt")


def test_metrics_are_logged(trained_run):
    rows = rows_of(trained_run / "runs/tiny/version_0/metrics.csv")
    columns = {name for row in rows for name, value in row.items() if value}
    of_training = {"train/exit_01/acc", "train/exit_01/gflops"}
    of_validation = {"exit_03/acc", "exit_03/gflops", "mean/acc", "score", "auc_edr", "auc_entropy", "gflops"}
    of_validation |= {"speedup_flops", "speedup_layers"}
    of_test = {"exit_03/acc", "edr_1.5x/acc", "edr_1.5x/speedup_flops", "gflops"}
    assert columns >= of_training | {f"val/{name}" for name in of_validation} | {f"test/{name}" for name in of_test}


def test_model_folder_opens(trained_run):
    folder = trained_run / "runs/tiny/version_0/model"
    model = MultiExitModel.from_pretrained(folder)
    assert model.label_names == ["entailment", "neutral", "contradiction"]
    policy = load_policy(folder, model)
    assert policy is not None
    assert policy.name == "edr"
    best = read_checkpoint(folder.parent / "checkpoints/best.ckpt")
    assert policy.threshold == best["mebert"]["policy"]["init_args"]["threshold"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, best["state_dict"][f"model.{name}"]), name


def test_saved_config_is_complete(trained_run):
    config = yaml.safe_load((trained_run / "runs/tiny/version_0/config.yaml").read_text())
    assert config["model"]["class_path"].endswith("ProtoExitModule")
    assert config["trainer"]["precision"] == "32-true"
    assert config["trainer"]["logger"]["init_args"]["name"] == "tiny"
    assert config["seed_everything"] == 42
    # Those that the short help leaves out, too.
    assert config["trainer"]["log_every_n_steps"] == 1
    assert config["last_checkpoint"]["filename"] == "last"


def test_last_checkpoint_is_the_last_epoch(tmp_path, monkeypatch):
    """Lightning's own `save_last` writes only when the best one changes; here learning is undone on purpose."""
    monkeypatch.chdir(tmp_path)
    settings = experiment(learning_rate=1e-9)  # every epoch scores the same, so only the first is "better"
    settings["test_after_fit"] = False
    assert run("fit", "--config", str(write_config(tmp_path, settings))) == 0
    checkpoints = newest(tmp_path) / "checkpoints"
    epochs = {p.stem: torch.load(p, weights_only=True)["epoch"] for p in checkpoints.iterdir()}
    assert epochs == {"best": 0, "last": 1}


def test_max_steps_inside_an_epoch_still_gives_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(write_config(tmp_path))
    short = ["--trainer.max_steps", "2", "--trainer.max_epochs", "-1", "--test_after_fit", "false"]
    assert run("fit", "--config", config, *short) == 0
    best = torch.load(newest(tmp_path) / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == 2
    assert best["mebert"]["operating_points"]["edr"]


def test_fast_dev_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("fit", "--config", str(write_config(tmp_path)), "--trainer.fast_dev_run", "true") == 0
    assert not (tmp_path / "runs").exists()
    assert "Saved:" not in capsys.readouterr().out


@pytest.mark.slow
def test_without_logger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment()
    settings["trainer"] |= {"logger": False, "default_root_dir": str(tmp_path / "here"), "max_epochs": 1}
    config = str(write_config(tmp_path, settings))
    assert run("fit", "--config", config) == 0
    assert run("fit", "--config", config) == 0
    runs = sorted((tmp_path / "here/tiny").iterdir())
    assert [folder.name for folder in runs] == ["version_0", "version_1"], "the second does not overwrite the first"
    assert all((folder / "evaluation.json").is_file() for folder in runs)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["tiny"]


# ---- from a checkpoint -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_validate_and_test_repeat_the_run(in_trained_run, capsys):
    first = json.loads((in_trained_run / "runs/tiny/version_0/evaluation.json").read_text())
    assert run("validate", "--config", "tiny.yaml", "--ckpt_path", "best") == 0
    assert "Operating points (val, 41 samples)" in capsys.readouterr().out
    report = (newest(in_trained_run) / "report.md").read_text(encoding="utf-8")
    assert f"{first['operating_points']['edr'][0]['threshold']:.4g}" in report, "the thresholds of training stand"
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", BEST) == 0
    again = json.loads((newest(in_trained_run) / "evaluation.json").read_text())
    assert newest(in_trained_run).name != "version_0"
    for key in ("exits", "full_model", "leaving", "oracle", "per_class"):
        assert again[key] == first[key]
    clock = {"speedup_wall", "speedup_wall_range"}
    one, other = ({k: v for k, v in one["operating_point"].items() if k not in clock} for one in (first, again))
    assert one == other


def test_predict_writes_the_table_in_order(in_trained_run):
    assert run(*PREDICT, "--predictions.path", "out/all.csv") == 0
    rows = rows_of("out/all.csv")
    assert [int(row["index"]) for row in rows] == list(range(41))
    names = ("entailment", "neutral", "contradiction")
    assert list(rows[0]) == ["index", "hypothesis", "premise", "label", *(f"prob_{name}" for name in names), "exit"]
    for row in rows:
        probabilities = {name: float(row[f"prob_{name}"]) for name in names}
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert max(probabilities, key=probabilities.__getitem__) == row["label"]
        assert 1 <= int(row["exit"]) <= 3
    assert run(*PREDICT, "--predictions.path", "out/full.jsonl", "--model.init_args.engine", "full") == 0
    full = [json.loads(line) for line in Path("out/full.jsonl").read_text().splitlines()]
    assert [(row["label"], row["exit"]) for row in full] == [(row["label"], int(row["exit"])) for row in rows]


def test_predict_at_a_chosen_speed(in_trained_run, capsys):
    assert run(*PREDICT, "--predictions.path", "never.csv", "--predictions.threshold", "0") == 0
    assert {row["exit"] for row in rows_of("never.csv")} == {"3"}
    assert run(*PREDICT, "--predictions.speedup", "1.2") == 0
    assert (newest(in_trained_run) / "predictions.csv").is_file()
    tables = []
    for engine in ("full", "shrink", "refill"):
        capsys.readouterr()
        assert run(*PREDICT, "--out", f"{engine}.csv", "--engine", engine) == 0
        assert re.search(rf"engine +{engine}\n", capsys.readouterr().out)
        tables.append([(row["index"], row["label"], row["exit"]) for row in rows_of(f"{engine}.csv")])
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == 41


def test_checkpoint_overrides_are_reported(in_trained_run, capsys, caplog):
    with caplog.at_level("INFO"):
        args = ["--ckpt_path", BEST, "--model.init_args.learning_rate", "0.5"]
        assert run("validate", "--config", "tiny.yaml", *args) == 0
    assert "learning_rate: the checkpoint's 0.003 is used, not 0.5" in caplog.text + capsys.readouterr().err


def test_resume_and_second_run(in_trained_run):
    more = ["--trainer.max_epochs", "3", "--test_after_fit", "false"]
    assert run("fit", "--config", "tiny.yaml", "--ckpt_path", "last", *more) == 0
    assert newest(in_trained_run).name == "version_1"
    assert torch.load(newest(in_trained_run) / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 18
    assert (newest(in_trained_run) / "model/exits.json").is_file()
    assert not (newest(in_trained_run) / "evaluation.json").exists(), "test_after_fit: false"


def test_a_configuration_is_parsed_once(tmp_path, monkeypatch):
    import mebert.cli.config_files

    parsed = []

    class Counting(mebert.cli.config_files.StrictLoader):
        def __init__(self, text):
            parsed.append(text)
            super().__init__(text)

    monkeypatch.setattr(mebert.cli.config_files, "StrictLoader", Counting)
    text = write_config(tmp_path).read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        run("fit", "--config", str(tmp_path / "tiny.yaml"), "--print_config")
    assert parsed.count(text) == 1


# ---- start-up --------------------------------------------------------------------------------------------------------


def test_a_process_of_its_own(tmp_path):
    result = run_process("tset", "--config", "tiny.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("mebert: error: there is no command 'tset'")
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_start_up_does_not_import_what_few_runs_need():
    few = "print([m for m in ('wandb', 'datasets', 'pandas') if m in sys.modules])"
    code = f"import sys, mebert.cli.lightning_command; {few}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
