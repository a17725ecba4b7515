"""The command line from end to end, on a tiny model and the built-in task."""

from __future__ import annotations

import csv
import json
import re
import resource
import shlex
import subprocess
import sys

import pytest
import torch
import yaml
from runs import QUIET, experiment, newest, run, run_process, write_config

from mebert import MultiExitModel
from mebert.policies.stored_thresholds import load_policy


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run, and what it printed; tests here must not change the run."""
    folder = tmp_path_factory.mktemp("trained")
    write_config(folder)
    result = run_process("fit", "--config", "tiny.yaml", *QUIET, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, result


@pytest.fixture
def in_run(trained, monkeypatch):
    """The finished run's folder as the working directory."""
    monkeypatch.chdir(trained[0])
    return trained[0]


def test_fit_leaves_everything_in_one_folder(trained):
    run_dir = trained[0] / "runs/tiny/version_0"
    files = {path.name for path in run_dir.iterdir()}
    assert files >= {"config.yaml", "metrics.csv", "checkpoints", "curve.csv", "curve.png", "evaluation.json", "model"}
    assert {path.name for path in (run_dir / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in trained[0].iterdir()} == {"tiny.yaml", "runs"}, "nothing is written elsewhere"


def test_fit_prints_tables_and_the_next_command(trained):
    folder, result = trained
    out = result.stdout
    for title in ("Exits:", "Operating points", "Where easy and hard samples left", "Saved:", "Next:"):
        assert title in out
    assert "precision:" not in result.stderr, "it was given"
    saved = out[out.index("Saved:") : out.index("Next:")]
    for path in re.findall(r"runs/\S+", saved):
        assert (folder / path).exists()
    commands = re.findall(r"python -m mebert .*", out)
    assert len(commands) == 6


def test_printed_commands_work(in_run, trained):
    commands = re.findall(r"python -m mebert (.*)", trained[1].stdout)
    (in_run / "my.csv").write_text("hypothesis,premise\n the cat , a dog\n", encoding="utf-8")
    for command in commands[:3]:  # tests/test_next_commands.py runs the others
        assert run(*shlex.split(command)) == 0, command


def test_evaluation_json(trained):
    evaluation = json.loads((trained[0] / "runs/tiny/version_0/evaluation.json").read_text())
    assert evaluation["samples"] == 41
    assert [row["exit"] for row in evaluation["exits"]] == [1, 2, 3]
    assert evaluation["exits"][-1]["speedup_layers"] == 1.0
    assert set(evaluation["operating_points"]) == {"edr", "entropy"}
    point = evaluation["operating_points"]["edr"][0]
    assert point["target"] == 1.2
    assert point["speedup_wall"] > 0
    assert {row["group"] for row in evaluation["leaving"]} == {"1", "2", "3", "4", "all"}
    assert evaluation["checkpoint"].endswith("best.ckpt")


def test_metrics_are_logged(trained):
    with (trained[0] / "runs/tiny/version_0/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {name for row in rows for name, value in row.items() if value}
    assert columns >= {
        "train/exit_01/acc",
        "train/exit_01/gflops",
        "val/exit_03/acc",
        "val/exit_03/gflops",
        "val/mean/acc",
        "val/score",
        "val/auc_edr",
        "val/auc_entropy",
        "val/gflops",
        "val/speedup_flops",
        "val/speedup_layers",
        "test/exit_03/acc",
        "test/edr_1.5x/acc",
        "test/edr_1.5x/speedup_wall",
        "test/gflops",
    }


def test_model_folder_opens(trained):
    folder = trained[0] / "runs/tiny/version_0/model"
    model = MultiExitModel.from_pretrained(folder)
    assert model.label_names == ["entailment", "neutral", "contradiction"]
    policy = load_policy(folder, model)
    assert policy is not None
    assert policy.name == "edr"
    best = torch.load(folder.parent / "checkpoints/best.ckpt", weights_only=True)
    assert policy.threshold == best["mebert"]["policy"]["init_args"]["threshold"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, best["state_dict"][f"model.{name}"]), name


def test_saved_config_is_complete(trained):
    config = yaml.safe_load((trained[0] / "runs/tiny/version_0/config.yaml").read_text())
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
    settings["trainer"]["max_epochs"] = 3
    settings["test_after_fit"] = False
    assert run("fit", "--config", str(write_config(tmp_path, settings))) == 0
    checkpoints = newest(tmp_path) / "checkpoints"
    epochs = {p.stem: torch.load(p, weights_only=True)["epoch"] for p in checkpoints.iterdir()}
    assert epochs == {"best": 0, "last": 2}


def test_max_steps_inside_an_epoch_still_gives_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(write_config(tmp_path))
    assert run("fit", "--config", config, "--trainer.max_steps", "2", "--trainer.max_epochs", "-1") == 0
    best = torch.load(newest(tmp_path) / "checkpoints/best.ckpt", weights_only=True)
    assert best["global_step"] == 2
    assert best["mebert"]["operating_points"]["edr"]


def test_fast_dev_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("fit", "--config", str(write_config(tmp_path)), "--trainer.fast_dev_run", "true") == 0
    assert not (tmp_path / "runs").exists()
    assert "Saved:" not in capsys.readouterr().out


def test_without_logger(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment()
    settings["trainer"] |= {"logger": False, "default_root_dir": str(tmp_path / "here"), "max_epochs": 1}
    config = str(write_config(tmp_path, settings))
    assert run("fit", "--config", config) == 0
    assert run("fit", "--config", config) == 0
    assert (tmp_path / "here/evaluation.json").is_file()


# ---- from a checkpoint -----------------------------------------------------------------------------------------------


def test_validate_and_test_repeat_the_run(in_run, trained, capsys):
    first = json.loads((in_run / "runs/tiny/version_0/evaluation.json").read_text())
    assert run("validate", "--config", "tiny.yaml", "--ckpt_path", "best") == 0
    out = capsys.readouterr().out
    assert "Exits: every sample leaves there (val, 41 samples)" in out
    assert f"{first['operating_points']['edr'][0]['threshold']:.4g}" in out, "the thresholds of training stand"
    best = "runs/tiny/version_0/checkpoints/best.ckpt"
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", best) == 0
    again = json.loads((newest(in_run) / "evaluation.json").read_text())
    assert newest(in_run).name != "version_0"
    for key in ("exits", "operating_point", "leaving", "oracle"):
        assert again[key] == first[key]


def test_predict_writes_the_table_in_order(in_run):
    best = "runs/tiny/version_0/checkpoints/best.ckpt"
    args = ["predict", "--config", "tiny.yaml", "--ckpt_path", best]
    assert run(*args, "--predictions.path", "out/all.csv") == 0
    with (in_run / "out/all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(41))
    columns = [
        "index",
        "hypothesis",
        "premise",
        "label",
        "prob_entailment",
        "prob_neutral",
        "prob_contradiction",
        "exit",
    ]
    assert list(rows[0]) == columns
    for row in rows:
        probabilities = {name: float(row[f"prob_{name}"]) for name in ("entailment", "neutral", "contradiction")}
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert max(probabilities, key=probabilities.__getitem__) == row["label"]
        assert 1 <= int(row["exit"]) <= 3
    assert run(*args, "--predictions.path", "out/full.jsonl", "--model.init_args.engine", "full") == 0
    full = [json.loads(line) for line in (in_run / "out/full.jsonl").read_text().splitlines()]
    assert [row["label"] for row in full] == [row["label"] for row in rows]
    assert [row["exit"] for row in full] == [int(row["exit"]) for row in rows]


def test_predict_at_a_chosen_speed(in_run, capsys):
    best = "runs/tiny/version_0/checkpoints/best.ckpt"
    args = ["predict", "--config", "tiny.yaml", "--ckpt_path", best]
    assert run(*args, "--predictions.path", "never.csv", "--predictions.threshold", "0") == 0
    with (in_run / "never.csv").open() as file:
        assert {row["exit"] for row in csv.DictReader(file)} == {"3"}
    assert run(*args, "--predictions.speedup", "1.2") == 0
    assert (newest(in_run) / "predictions.csv").is_file()
    before = newest(in_run)
    assert run(*args, "--predictions.speedup", "7") == 2
    assert "stored: 1.2, 1.5, 2" in capsys.readouterr().err
    assert newest(in_run) == before, "a mistake leaves no run folder"
    tables = []
    for engine in ("full", "shrink", "refill"):
        assert run(*args, "--predictions.path", f"{engine}.csv", "--predictions.engine", engine) == 0
        assert f"engine {engine}" in capsys.readouterr().out
        with (in_run / f"{engine}.csv").open() as file:
            tables.append([(row["index"], row["label"], row["exit"]) for row in csv.DictReader(file)])
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == 41
    assert run(*args, "--predictions.engine", "predicted") == 2
    assert "no exit predictor is stored with this model; train with" in capsys.readouterr().err


def test_checkpoint_overrides_are_said(in_run, capsys, caplog):
    best = "runs/tiny/version_0/checkpoints/best.ckpt"
    with caplog.at_level("INFO"):
        args = ["--ckpt_path", best, "--model.init_args.learning_rate", "0.5"]
        assert run("validate", "--config", "tiny.yaml", *args) == 0
    said = caplog.text + capsys.readouterr().err
    assert "learning_rate: the checkpoint's 0.003 is used, not 0.5" in said


def test_resume_and_second_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    settings["test_after_fit"] = False
    config = str(write_config(tmp_path, settings))
    assert run("fit", "--config", config) == 0
    assert run("fit", "--config", config) == 0
    assert run("fit", "--config", config, "--ckpt_path", "last", "--trainer.max_epochs", "2") == 0
    assert newest(tmp_path).name == "version_2"
    assert torch.load(newest(tmp_path) / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 12
    assert (newest(tmp_path) / "model/exits.json").is_file()
    assert not (newest(tmp_path) / "evaluation.json").exists(), "test_after_fit: false"


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fit", "--config", "missing.yaml"], "missing.yaml"),
        (["fit", "--config", "tiny.yaml", "--trainer.max_epoch", "3"], "--trainer.max_epoch"),
        (["fit", "--config", "tiny.yaml", "--trainer.max_epochs", "many"], "trainer.max_epochs"),
        (["fit", "--config", "tiny.yaml", "--model.init_args.poling", "cls"], "poling"),
        (["fit", "--config", "tiny.yaml", "--model.init_args.pooling", "cla"], "'cls', 'mean'"),
        (["fit", "--config", "tiny.yaml", "--model", "ProtoExitModul"], "no class ProtoExitModul"),
        (["fit", "--config", "tiny.yaml", "--model.init_args.lam", "-1"], "lam must be at least 0"),
        (["fit", "--config", "tiny.yaml", "--model.init_args.gamma", "2"], "gamma"),
        (["fit", "--config", "tiny.yaml", "--model.init_args.threshold", "1.5"], "threshold must be in [0, 1]"),
        (["fit", "--config", "tiny.yaml", "--curve.points", "[0.5]"], "curve.points"),
        (["fit", "--config", "tiny.yaml", "--predictions.path", "out.xls"], ".parquet"),
        (["fit", "--config", "tiny.yaml", "--data", "TextDataModule", "--data.task", "foo"], "unknown task 'foo'"),
        (["fit"], "data"),
        (["test", "--config", "tiny.yaml"], "--ckpt_path best"),
        (["test", "--config", "tiny.yaml", "--ckpt_path", "last"], "runs/tiny/*/checkpoints/last.ckpt"),
        (["predict", "--config", "tiny.yaml", "--ckpt_path", "runs/none.ckpt"], "no such file"),
        (["test", "--config", "tiny.yaml", "--ckpt_path", "tiny.yaml"], "not a readable checkpoint"),
        (["test", "--config", "tiny.yaml", "--ckpt_path", "other.pt"], "not a checkpoint of mebert"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistake_gets_one_line_and_writes_nothing(args, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path)
    torch.save({"weights": torch.zeros(2)}, "other.pt")
    before = sorted(tmp_path.rglob("*"))
    assert run(*args) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("mebert: error:")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before


def test_mistake_in_a_process_of_its_own(tmp_path):
    write_config(tmp_path)
    result = run_process("test", "--config", "tiny.yaml", "--ckpt_path", "last", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("mebert: error: --ckpt_path last: no runs/tiny")
    assert "Traceback" not in result.stderr


def test_checkpoint_of_another_task(in_run, tmp_path, capsys):
    (tmp_path / "two.csv").write_text("text,label\ngood,pos\nbad,neg\n", encoding="utf-8")
    settings = experiment()
    files = {f"{name}_file": str(tmp_path / "two.csv") for name in ("train", "validation", "test")}
    settings["data"] = {"class_path": "mebert.TextDataModule", "init_args": files}
    config = write_config(tmp_path, settings)
    best = "runs/tiny/version_0/checkpoints/best.ckpt"
    assert run("test", "--config", str(config), "--ckpt_path", best) == 2
    assert "was trained for 3 labels, but this data has 2" in capsys.readouterr().err


# ---- extension, several processes, start-up --------------------------------------------------------------------------

TEN_LINES = '''
from mebert import MultiExitModule


class LastExitTwice(MultiExitModule):
    """Counts the last exit's loss twice."""

    def compute_loss(self, outputs, batch):
        loss = self.weighted_exit_loss(outputs, batch)
        repeated = type(outputs)(outputs.logits[-1:].expand_as(outputs.logits), outputs.features)
        last = self.weighted_exit_loss(repeated, batch)
        return {"loss": loss + last, "last": last.detach()}
'''


def test_ten_lines_outside_the_package_train_by_class_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_recipe.py").write_text(TEN_LINES, encoding="utf-8")
    settings = experiment()
    del settings["model"]["init_args"]["prototype_dim"]
    settings["model"]["class_path"] = "my_recipe.LastExitTwice"
    settings["trainer"]["max_epochs"] = 1
    config = str(write_config(tmp_path, settings))
    assert run("fit", "--config", config) == 0
    assert "train/last" in (newest(tmp_path) / "metrics.csv").read_text()
    assert run("test", "--config", config, "--ckpt_path", "best") == 0


def test_help_names_every_command_in_time(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = run_process("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert all(command in result.stdout for command in ("fit", "validate", "test", "predict"))
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 10, "--help within 10 s"


def test_start_up_does_not_import_what_few_runs_need(tmp_path):
    code = (
        "import sys, mebert; few = ('wandb', 'datasets', 'matplotlib', 'pandas'); "
        "assert not [m for m in few if m in sys.modules]; import mebert.cli.lightning; "
        "print([m for m in few if m in sys.modules and m != 'matplotlib'])"  # torchmetrics imports matplotlib itself
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
