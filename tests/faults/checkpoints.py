"""Checkpoints and run folders: not there, damaged, of another program, of other settings."""

from __future__ import annotations

from pathlib import Path

import torch
from faults.damage import checkpoint, gone, half, json_without, tensors_with, zero_bytes
from faults.fault import Fault

__all__ = ["FAULTS"]

RUN = "runs/tiny/version_0"
BEST = f"{RUN}/checkpoints/best.ckpt"
TEST = f"test --config tiny.yaml --ckpt_path {BEST}"


BROKEN_JSON = '{"policy": "edr", "metric": '


def foreign(path: Path) -> None:
    """Write a checkpoint of Lightning that is none of ours."""
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "epoch": 1, "pytorch-lightning_version": "2.6.0"}, path)


FAULTS = [
    Fault("test without a checkpoint", "test --config tiny.yaml", ("--ckpt_path best",)),
    Fault(
        "best, before anything was trained",
        "test --config tiny.yaml --ckpt_path best",
        ("/checkpoints/best.ckpt", "--config", "--ckpt_path"),
    ),
    Fault(
        "last, in another folder",
        "fit --config tiny.yaml --ckpt_path last",
        ("/checkpoints/last.ckpt", "--config", "--ckpt_path"),
    ),
    Fault(
        "a checkpoint that is not there", "test --config tiny.yaml --ckpt_path none.ckpt", ("none.ckpt", "--ckpt_path")
    ),
    Fault(
        "a run in the place of its checkpoint",
        f"test --config tiny.yaml --ckpt_path {RUN}",
        ("--ckpt_path", "runs", "tiny"),
        run=True,
    ),
    Fault(
        "a checkpoint that was cut off",
        TEST,
        ("runs/tiny/version_0/checkpoints/best.ckpt", "runs/tiny/version_0/checkpoints/last.ckpt"),
        {BEST: half},
        run=True,
    ),
    Fault(
        "a checkpoint of zero bytes",
        TEST,
        ("runs/tiny/version_0/checkpoints/best.ckpt", "runs/tiny/version_0/checkpoints/last.ckpt"),
        {BEST: zero_bytes},
        run=True,
    ),
    Fault("a text in the place of a checkpoint", "test --config tiny.yaml --ckpt_path tiny.yaml", ("tiny.yaml",)),
    Fault(
        "weights alone",
        "test --config tiny.yaml --ckpt_path other.pt",
        ("other.pt", "/checkpoints/best.ckpt"),
        {"other.pt": lambda p: torch.save({"w": torch.zeros(2)}, p)},
    ),
    Fault(
        "a tensor in the place of a checkpoint",
        "test --config tiny.yaml --ckpt_path other.pt",
        ("other.pt", "/checkpoints/best.ckpt"),
        {"other.pt": lambda p: torch.save(torch.zeros(2), p)},
    ),
    Fault(
        "a checkpoint of another program",
        "test --config tiny.yaml --ckpt_path other.ckpt",
        ("other.ckpt", "/checkpoints/best.ckpt"),
        {"other.ckpt": foreign},
    ),
    Fault(
        "a checkpoint without its policy",
        TEST,
        ("runs/tiny/version_0/checkpoints/best.ckpt", "runs/tiny/version_0/checkpoints/last.ckpt"),
        {BEST: checkpoint(lambda c: c["mebert"].pop("policy"))},
        run=True,
    ),
    Fault(
        "a checkpoint of a policy to come",
        TEST,
        ("'mebert.policies.Newer'",),
        {
            BEST: checkpoint(
                lambda c: c["mebert"].update(policy={"class_path": "mebert.policies.Newer", "init_args": {}})
            )
        },
        run=True,
    ),
    Fault(
        "a checkpoint without its thresholds",
        TEST,
        ("runs/tiny/version_0/checkpoints/best.ckpt", "runs/tiny/version_0/checkpoints/last.ckpt"),
        {BEST: checkpoint(lambda c: c["mebert"].pop("operating_points"))},
        run=True,
    ),
    Fault(
        "a checkpoint that lacks a weight",
        TEST,
        ("runs/tiny/version_0/checkpoints/best.ckpt",),
        {BEST: checkpoint(lambda c: c["state_dict"].pop("model.exits.0.classifier.3.bias"))},
        run=True,
    ),
    Fault(
        "a checkpoint with a weight too many",
        TEST,
        ("runs/tiny/version_0/checkpoints/best.ckpt",),
        {BEST: checkpoint(lambda c: c["state_dict"].update({"model.extra": torch.zeros(2)}))},
        run=True,
    ),
    Fault(
        "a checkpoint with weights of another size",
        TEST,
        ("runs/tiny/version_0/checkpoints/best.ckpt",),
        {BEST: checkpoint(lambda c: c["state_dict"].update({"model.exits.0.classifier.3.bias": torch.zeros(9)}))},
        run=True,
    ),
    Fault(
        "a checkpoint for other labels",
        f"test --config own.yaml --ckpt_path {BEST}",
        ("runs/tiny/version_0/checkpoints/best.ckpt", "--ckpt_path"),
        run=True,
    ),
    Fault(
        "a speed-up that is not stored",
        f"predict --config tiny.yaml --ckpt_path {BEST} --speedup 7",
        ("speed-up of 7", "stored: 1.2, 2"),
        run=True,
    ),
    Fault(
        "a drop that was not calibrated",
        f"predict --config tiny.yaml --ckpt_path {BEST} --max_drop 0.01",
        ("0.01",),
        run=True,
    ),
    Fault(
        "an exit predictor that was not trained",
        f"predict --config tiny.yaml --ckpt_path {BEST} --engine predicted",
        ("predicted",),
        run=True,
    ),
    Fault(
        "GLUE's files of other data",
        f"predict --config tiny.yaml --ckpt_path {BEST} --format glue",
        ("glue",),
        run=True,
    ),
    # ---- run folders ----
    Fault("compare: no such run", "compare runs/none", ("runs", "none")),
    Fault(
        "compare: a run that was not tested",
        f"compare {RUN}",
        ("evaluation.json", "runs/tiny/version_0/config.yaml", "runs/tiny/version_0/checkpoints/best.ckpt"),
        {f"{RUN}/evaluation.json": gone},
        run=True,
    ),
    Fault(
        "compare: a test without its rows",
        f"compare {RUN}",
        ("outputs.safetensors", "runs/tiny/version_0/config.yaml", "runs/tiny/version_0/checkpoints/best.ckpt"),
        {f"{RUN}/outputs.safetensors": gone},
        run=True,
    ),
    Fault(
        "compare: rows that were cut off",
        f"compare {RUN}",
        ("runs/tiny/version_0/outputs.safetensors",),
        {f"{RUN}/outputs.safetensors": half},
        run=True,
    ),
    Fault(
        "compare: rows without labels",
        f"compare {RUN}",
        ("runs/tiny/version_0/outputs.safetensors",),
        {f"{RUN}/outputs.safetensors": tensors_with(labels=None)},
        run=True,
    ),
    Fault(
        "compare: a broken evaluation.json",
        f"compare {RUN}",
        ("runs/tiny/version_0/evaluation.json", "line 1"),
        {f"{RUN}/evaluation.json": BROKEN_JSON},
        run=True,
    ),
    Fault(
        "compare: an evaluation.json of another kind",
        f"compare {RUN}",
        ("runs/tiny/version_0/evaluation.json",),
        {f"{RUN}/evaluation.json": json_without("metric", "exits", "policy")},
        run=True,
    ),
    Fault(
        "compare: a broken config.yaml",
        f"compare {RUN}",
        ("runs/tiny/version_0/config.yaml",),
        {f"{RUN}/config.yaml": "model: [1\n"},
        run=True,
    ),
    Fault(
        "compare: a config.yaml without a model",
        f"compare {RUN}",
        ("runs/tiny/version_0/config.yaml",),
        {f"{RUN}/config.yaml": "trainer:\n  max_epochs: 1\n"},
        run=True,
    ),
    Fault(
        "calibrate: a run without its model",
        f"calibrate --model {RUN} --speedup 1.5",
        ("'runs/tiny/version_0'",),
        {f"{RUN}/model/exits.json": gone},
        run=True,
    ),
    Fault(
        "calibrate: a broken config.yaml",
        f"calibrate --model {RUN} --speedup 1.5",
        ("runs/tiny/version_0/config.yaml", "','", "']'"),
        {f"{RUN}/config.yaml": "data: [1\n"},
        run=True,
    ),
    Fault(
        "calibrate: a run whose data is of another class",
        f"calibrate --model {RUN} --speedup 1.5",
        ("runs/tiny/version_0/config.yaml", "'nowhere.Data'", "--model"),
        {f"{RUN}/config.yaml": "data:\n  class_path: nowhere.Data\n"},
        run=True,
    ),
    Fault("inspect: a folder without a model", 'inspect tokenizer --text "a"', ("'tokenizer'",)),
    Fault(
        "inspect: a checkpoint that was cut off",
        f'inspect {BEST} --text "a"',
        ("runs/tiny/version_0/checkpoints/best.ckpt", "runs/tiny/version_0/checkpoints/last.ckpt"),
        {BEST: half},
        run=True,
    ),
]
