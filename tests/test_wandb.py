"""Weights & Biases without an account: two runs in a row, each with its own folder and its whole configuration."""

from __future__ import annotations

from pathlib import Path

import yaml
from runs import QUIET, experiment, run_process, write_config

OVERLAY = Path(__file__).resolve().parent.parent / "configs" / "logger" / "wandb.yaml"


def test_two_offline_runs_in_a_row(tmp_path):
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    config = str(write_config(tmp_path, settings))
    for _ in range(2):
        done = run_process("fit", "--config", config, "--config", str(OVERLAY), *QUIET, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    folders = [path.parent for path in (tmp_path / "runs" / "mebert").glob("*/config.yaml")]
    assert len(folders) == 2
    for folder in folders:
        saved = yaml.safe_load((folder / "config.yaml").read_text())
        assert saved["model"]["class_path"] == "mebert.ProtoExitModule"
        assert saved["trainer"]["logger"]["class_path"].endswith("WandbLogger")
        written = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "curve.png", "evaluation.json", "model/exits.json")
        for name in written:
            assert (folder / name).is_file(), name
    assert len(list((tmp_path / "runs" / "wandb").glob("offline-run-*/*.wandb"))) == 2
