"""Weights & Biases without an account, through the real command line; what was written is read back from its file."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from runs import experiment, read_csv, run, write_config
from sklearn.metrics import confusion_matrix
from wandb_file import offline_runs

from mebert.data.synthetic import SyntheticEntailmentDataModule
from mebert.metrics.curve import replay
from mebert.metrics.record_files import load_record
from mebert.storage.checkpoints import read_checkpoint

OVERLAY = str(Path(__file__).resolve().parents[2] / "configs" / "logger" / "wandb.yaml")
WITH_WANDB = ("--config", "tiny.yaml", "--config", OVERLAY)
SAMPLES = 7


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder to run in, W&B's own folder for waiting artifacts inside."""
    folder = tmp_path_factory.mktemp("wandb")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_DATA_DIR", str(folder / "data"))
        yield folder


@pytest.fixture(scope="module")
def logged(home):
    """A finished run of `fit`: its folder, its evaluation, what W&B has, and the lines that were printed."""
    settings = experiment(learning_rate=3e-2)  # so that exits disagree
    settings["wandb"] = {"samples": SAMPLES}
    write_config(home, settings)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("mebert")
    logger.addHandler(handler)
    try:
        own = ("--trainer.logger.init_args.log_model", "true", "--trainer.logger.init_args.tags", "[mine]")
        assert run("fit", *WITH_WANDB, *own) == 0
    finally:
        logger.removeHandler(handler)
    (found,) = offline_runs(home / "runs")
    folder = home / "runs" / "tiny" / found.run.run_id
    evaluation = json.loads((folder / "evaluation.json").read_text())
    return SimpleNamespace(folder=folder, evaluation=evaluation, wandb=found, lines=lines)


def test_one_line_says_how_to_send_the_run(logged):
    (line,) = [line for line in logged.lines if "Weights & Biases" in line]
    command, _, folder = line.partition("wandb sync ")
    assert command.endswith("send the run later with: ")
    assert (logged.folder.parents[2] / folder).resolve() == logged.wandb.folder.resolve()


def test_what_the_run_is(logged):
    about = logged.wandb.run
    assert (about.project, about.run_group, about.job_type) == ("mebert", "tiny", "fit")
    assert list(about.tags) == ["mine", "ProtoExitModule", "synthetic", "bert"]
    assert logged.wandb.finished == 0
    config = logged.wandb.config["config"]
    assert config == yaml.safe_load((logged.folder / "config.yaml").read_text())
    assert config["model"]["class_path"] == "mebert.ProtoExitModule"
    assert config["data"]["class_path"] == "mebert.SyntheticEntailmentDataModule"
    assert config["model"]["init_args"]["encoder_config"]["hidden_size"] == 16
    assert logged.wandb.config["learning_rate"] == 3e-2, "settings of the recipe are columns, too"


def test_the_folder_is_the_experiments(logged):
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "curve.png", "evaluation.json", "model/exits.json"):
        assert (logged.folder / name).is_file(), name


def test_every_metric_is_defined(logged):
    numbers = {k for row in logged.wandb.history for k, v in row.items() if isinstance(v, float | int) and k[0] != "_"}
    assert len(numbers) > 60
    for name in numbers - {"trainer/global_step"}:
        assert logged.wandb.metrics[name].step_metric == "trainer/global_step", name
    kept = {n: [f.name for f, on in m.summary.ListFields() if on] for n, m in logged.wandb.metrics.items()}
    largest = ("val/exit_02/acc", "val/score", "val/auc", "val/auc_edr", "test/edr_2x/speedup_flops", "test/elue_edr")
    wanted = {name: ["max"] for name in largest} | {name: ["min"] for name in ("train/loss", "val/dar", "test/ce")}
    wanted |= {"val/exit_02/gflops": [], "epoch": []}
    assert {name: kept[name] for name in wanted} == wanted


def test_summaries_are_those_of_the_history(logged):
    for name, best in {"val/score": max, "val/auc": max, "val/loss": min, "train/loss": min}.items():
        values = [value for _, value in logged.wandb.values(name)]
        assert logged.wandb.summary[name] == pytest.approx({best.__name__: best(values)})
    areas = [value for _, value in logged.wandb.values("val/auc")]
    assert logged.wandb.summary["best/val_auc"] == pytest.approx(max(areas)), "flat, for sweeps"


@pytest.mark.parametrize("stage", ["train", "val"])
def test_all_exits_are_lines_of_one_chart(logged, stage):
    columns, rows = logged.wandb.table(f"{stage}/exits/acc_table")
    assert columns == ["step", "lineKey", "lineVal"]
    assert len(rows) == 3 * 2, "three exits, two epochs"
    for number in (1, 2, 3):
        line = [(step, value) for step, key, value in rows if key == f"exit {number:02d}"]
        assert line == logged.wandb.values(f"{stage}/exit_{number:02d}/acc")
    assert logged.wandb.chart(f"{stage}/exits/acc")["panelDefId"] == "wandb/lineseries/v0"


def test_exits(logged):
    rows = logged.wandb.rows("test/exits")
    assert [row["layer"] for row in rows] == [1, 2, 3]
    for row, known in zip(rows, logged.evaluation["exits"], strict=True):
        assert {name: row[name] for name in known} == pytest.approx(known)
        assert row["interval_low"] <= row["acc"] <= row["interval_high"]
    drawn = logged.wandb.chart("test/exit_accuracy")["fieldSettings"]
    assert (drawn["x"], drawn["y"]) == ("layer", "acc")


def test_operating_points(logged):
    rows = {(row["policy"], row["target"]): row for row in logged.wandb.rows("test/operating_points")}
    known = [point for points in logged.evaluation["operating_points"].values() for point in points]
    assert len(rows) == len(known) == 6
    for point in known:
        row = rows[point["policy"], point["target"]]
        assert [row["interval_low"], row["interval_high"]] == pytest.approx(point["interval"])
        for name in ("threshold", "agreement", "speedup_layers", "speedup_flops", "speedup_wall"):
            assert row[name] == pytest.approx(point[name]), name
        assert row["acc"] == pytest.approx(point["metric"])


def test_curve(logged):
    known = [r for r in read_csv(logged.folder / "curve.csv") if r["policy"] in ("edr", "entropy") and not r["target"]]
    rows = logged.wandb.rows("test/curve")
    assert len(rows) == len(known) > 4
    ours = sorted((row["policy"], row["speedup_layers"], row["acc"]) for row in rows)
    theirs = sorted((row["policy"], float(row["speedup_layers"]), float(row["acc"])) for row in known)
    for one, other in zip(ours, theirs, strict=True):
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:], rel=1e-4)
    drawn = logged.wandb.chart("test/accuracy_speed")
    assert drawn["panelDefId"] == "wandb/line/v0"
    assert drawn["fieldSettings"] == {"x": "speedup_layers", "y": "acc", "stroke": "policy"}
    assert logged.wandb.rows("test/accuracy_speed_table") == rows
    query = drawn["userQuery"]["queryFields"][0]
    assert query["name"] == "runSets", "all selected runs are drawn, not this one alone"


def test_compared_policies(logged):
    rows = [row for row in logged.wandb.rows("test/policies") if row["policy"] == "entropy"]
    known = logged.evaluation["policies"]["entropy"]
    assert [row["acc"] for row in rows] == pytest.approx(list(known["at"].values()))
    for row in rows:
        interval = known["reliability"][f"{row['speedup_layers']:g}"]["interval"]
        assert [row["interval_low"], row["interval_high"]] == pytest.approx(interval)


def test_exit_histogram(logged):
    rows = logged.wandb.rows("test/exit_histogram_table")
    assert [row["share of samples"] for row in rows] == logged.evaluation["operating_point"]["shares"]
    assert sum(row["share of samples"] for row in rows) == pytest.approx(1)
    assert logged.wandb.chart("test/exit_histogram")["panelDefId"] == "wandb/bar/v0"


def test_classes_and_confusion_of_every_exit_and_of_the_point_in_use(logged):
    record, about = load_record(logged.folder / "outputs.safetensors")
    names, per_class = about["label_names"], logged.evaluation["per_class"]
    rows = logged.wandb.rows("test/classes")
    wanted = [one | {"class": one["label"], "at": at} for at, found in per_class.items() for one in found["classes"]]
    assert [{**row, "label": row["class"]} for row in rows] == wanted
    exits = replay(record.scores[about["policy"]], about["threshold"])
    at = {f"exit_{number:02d}": logits for number, logits in enumerate(record.logits, start=1)}
    at["operating_point"] = record.logits_at(exits)
    for key, logits in at.items():
        counts = confusion_matrix(record.labels, logits.argmax(-1), labels=range(3))
        rows = logged.wandb.rows(f"test/confusion/{key}_table")
        found = {(row["Actual"], row["Predicted"]): row["nPredictions"] for row in rows}
        assert found == {(names[i], names[j]): counts[i, j] for i in range(3) for j in range(3)}


def test_samples(logged):
    record, about = load_record(logged.folder / "outputs.safetensors")
    data = SyntheticEntailmentDataModule(train_samples=96, eval_samples=41)
    data.setup("test")
    columns, _ = logged.wandb.table("test/samples")
    assert columns[:7] == ["index", "hypothesis", "premise", "label", "prediction", "exit_taken", "layer"]
    rows = logged.wandb.rows("test/samples")
    assert len(rows) == SAMPLES
    assert [rows[0]["index"], rows[-1]["index"]] == [0, 40], "spread over the split"
    threshold = logged.evaluation["operating_point"]["threshold"]
    for row in rows:
        place = row["index"]
        assert {name: [row[name]] for name in ("hypothesis", "premise")} == data.texts("test", [place])
        assert row["label"] == about["label_names"][record.labels[place]]
        leaving = next(e for e in range(3) if record.scores["edr"][e, place] < threshold or e == 2)
        assert (row["exit_taken"], row["layer"]) == (leaving + 1, leaving + 1)
        for e, logits in enumerate(record.logits[:, place]):
            share, top = (value.item() for value in logits.softmax(-1).max(-1))
            assert row[f"exit_{e + 1:02d}"] == about["label_names"][top]
            assert row[f"exit_{e + 1:02d}_confidence"] == pytest.approx(share, rel=1e-4)
        assert row["prediction"] == row[f"exit_{leaving + 1:02d}"]
        assert row["right"] == (row["prediction"] == row["label"])


def test_artifacts_wait_to_be_sent(logged):
    models = [artifact for artifact in logged.wandb.artifacts if artifact.type == "model"]
    assert [sorted(artifact.aliases) for artifact in models] == [["last", "latest"], ["best", "latest"]]
    assert {artifact.name for artifact in models} == {f"model-{logged.wandb.run.run_id}"}
    digests = {entry.path: entry.digest for artifact in models for entry in artifact.manifest.contents}
    for name, waiting in logged.wandb.files("model").items():
        kept = read_checkpoint(logged.folder / "checkpoints" / name)["state_dict"]
        sent = torch.load(waiting, weights_only=True)["state_dict"]  # a copy, which needs no model folder
        assert kept.keys() == sent.keys()
        assert all(torch.equal(sent[key], value) for key, value in kept.items())
        assert digests[name] == base64.b64encode(hashlib.md5(waiting.read_bytes()).digest()).decode()
    point = json.loads(logged.wandb.files("operating-point")["operating_point.json"].read_text())
    saved = torch.load(logged.folder / "checkpoints" / "best.ckpt", weights_only=True)["mebert"]
    assert point["policy"] == json.loads(json.dumps(saved["policy"]))
    assert point["thresholds"]["edr"] == {str(k): v for k, v in saved["operating_points"]["edr"].items()}
    assert point["tested"]["test"]["operating_point"]["speedup_layers"] > 1


def test_an_id_goes_on_with_the_run(logged, home):
    """A second start with the id of the first: the same run, from where its last checkpoint stands."""
    number = logged.wandb.run.run_id
    go_on = ("--ckpt_path", "last", "--trainer.max_epochs", "3", "--test_after_fit", "false")
    # Another run of the experiment has a newer checkpoint, which is not the one to go on from.
    other = home / "runs" / "tiny" / "other" / "checkpoints" / "last.ckpt"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(b"no checkpoint")
    before = set((home / "runs" / "tiny").iterdir())
    assert run("fit", *WITH_WANDB, "--trainer.logger.init_args.id", number, *go_on) == 0
    first, second = [found for found in offline_runs(home / "runs") if found.run.run_id == number]
    assert second.run.run_group == "tiny"
    epoch = 96 // 16
    assert [step for step, _ in first.values("val/score")] == [epoch - 1, 2 * epoch - 1]
    assert [step for step, _ in second.values("val/score")] == [3 * epoch - 1]
    assert set((home / "runs" / "tiny").iterdir()) == before, "in the run's own folder"


def test_next_run_is_a_new_one(logged, home):
    checkpoint = str(logged.folder / "checkpoints" / "best.ckpt")
    before = {found.run.run_id for found in offline_runs(home / "runs")}
    assert run("test", *WITH_WANDB, "--ckpt_path", checkpoint, "--wandb.samples", "0") == 0
    (newest,) = [found for found in offline_runs(home / "runs") if found.run.run_id not in before]
    assert newest.run.job_type == "test"
    assert newest.rows("test/exits") == logged.wandb.rows("test/exits")
    assert "test/samples" not in newest.history[-1] | newest.summary, "no text leaves the machine"
    assert not [artifact for artifact in newest.artifacts if artifact.type in ("model", "operating-point")]
