"""One process against two, through the real command line."""

import csv
import json

import pytest
import torch
from runs import QUIET, experiment, newest, run, run_process, write_config


def test_one_and_two_processes_agree(tmp_path, monkeypatch):
    """Same global batches, no dropout: the same prototypes, metrics, predictions and curves."""
    checkpoints, metrics, reports = {}, {}, {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        monkeypatch.chdir(folder)
        settings = experiment()
        settings["trainer"] |= {"devices": processes, "max_epochs": 1, "strategy": "ddp" if processes > 1 else "auto"}
        settings["data"]["init_args"] |= {"batch_size": 16 // processes, "eval_batch_size": 8 // processes}
        # Lambda is chosen by the larger of areas that are nearly equal on 41 rows: last bits would tip the choice.
        settings["model"]["init_args"]["lam"] = 1.0
        write_config(folder, settings)
        if processes == 1:
            assert run("fit", "--config", "tiny.yaml") == 0
        else:
            done = run_process("fit", "--config", "tiny.yaml", *QUIET, cwd=folder)
            assert done.returncode == 0, done.stderr
            assert done.stdout.count("Operating points") == 1, "only one process reports"
        assert [path.name for path in (folder / "runs/tiny").iterdir()] == ["version_0"]
        run_dir = newest(folder)
        checkpoints[processes] = torch.load(run_dir / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
        reports[processes] = json.loads((run_dir / "evaluation.json").read_text())
        with (run_dir / "metrics.csv").open() as file:
            cells = [cell for row in csv.DictReader(file) for cell in row.items() if cell[1]]
        metrics[processes] = {name: float(value) for name, value in cells if "wall" not in name}
    for name, tensor in checkpoints[1].items():
        # Adam divides by the gradient's size, so the last bits of tiny gradients show: a tenth of one step.
        torch.testing.assert_close(checkpoints[2][name], tensor, atol=3e-4, rtol=1e-3, msg=f"{name} differs")
    assert any("prototypes" in name for name in checkpoints[1])
    one, two = metrics[1], metrics[2]
    assert one.keys() == two.keys()
    # Lightning logs the training loss of rank 0 alone, over its own share of the batch. What hangs on a threshold is
    # compared below at equal weights: a threshold is one sample's score, and last bits of the weights move samples
    # across it.
    own_share = ("train/loss", "train/ce", "train/dar")
    on_threshold = ("speedup", "gflops", "edr_", "entropy_", "operating_point", "auc")
    compared = [n for n in one if n not in own_share and not any(part in n for part in on_threshold)]
    assert {"val/loss", "val/dar", "val/score", "test/loss", "test/exit_01/acc"} <= set(compared)
    assert {n: two[n] for n in compared} == pytest.approx({n: one[n] for n in compared}, abs=1e-3)
    for mine, other in zip(reports[1]["exits"], reports[2]["exits"], strict=True):
        assert mine == pytest.approx(other, abs=1e-5)  # the calibration error is a mean of floats

    # The same checkpoint on both: every reported figure, thresholds and all.
    best = str(next((tmp_path / "1/runs/tiny").glob("*/checkpoints/best.ckpt")))
    done = run_process("test", "--config", "tiny.yaml", "--ckpt_path", best, *QUIET, cwd=folder)
    assert done.returncode == 0, done.stderr
    again = json.loads((newest(folder) / "evaluation.json").read_text())
    for points in (*again["operating_points"].values(), *reports[1]["operating_points"].values()):
        for point in points:
            point.pop("speedup_wall")
    assert again["samples"] == reports[1]["samples"] == 41
    for key in ("exits", "operating_points", "operating_point", "oracle", "leaving", "area_under_curve"):
        assert again[key] == reports[1][key], key

    # An engine that holds rows back answers all of them, in order, on each process.
    tables = []
    args = ["predict", "--config", "tiny.yaml", "--ckpt_path", best, "--predictions.path"]
    done = run_process(*args, "table.csv", "--predictions.engine", "refill", *QUIET, cwd=folder)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path / "1")
    assert run(*args, "table.csv", "--predictions.engine", "full") == 0
    for processes in (1, 2):
        with (tmp_path / str(processes) / "table.csv").open() as file:
            tables.append([(row["index"], row["label"], row["exit"]) for row in csv.DictReader(file)])
    assert tables[0] == tables[1]
    assert [int(index) for index, _, _ in tables[0]] == list(range(41))
