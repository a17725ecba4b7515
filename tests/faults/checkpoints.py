"""Checkpoints and run folders: not there, damaged, of another program, of other settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from faults.fault import RUN, Content, Fault, change_checkpoint, change_json, change_tensors, half

__all__ = ["FAULTS"]

BEST = f"{RUN}/checkpoints/best.ckpt"
TEST = f"test --config tiny.yaml --ckpt_path {BEST}"


BROKEN_JSON = '{"policy": "edr", "metric": '


def foreign(path: Path) -> None:
    """Write a checkpoint of Lightning that is none of ours."""
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "epoch": 1, "pytorch-lightning_version": "2.6.0"}, path)


def changed(what: str, says: str, change: Callable[[dict[str, Any]], object]) -> Fault:
    """`test` with a checkpoint whose content was changed."""
    return Fault(what, TEST, says, {BEST: change_checkpoint(change)})


def compared(what: str, name: str, content: Content) -> Fault:
    """`compare` of a run with one other file."""
    return Fault(f"compare: {what}", f"compare {RUN}", (RUN, name), {f"{RUN}/{name}": content})


FAULTS = [
    Fault("test without a checkpoint", "test --config tiny.yaml", "--ckpt_path best"),
    Fault(
        "best, before anything was trained",
        "test --config tiny.yaml --experiment new --ckpt_path best",
        "/checkpoints/best.ckpt",
    ),
    Fault("a checkpoint that is not there", "test --config tiny.yaml --ckpt_path none.ckpt", "--ckpt_path"),
    Fault("a run in the place of its checkpoint", f"test --config tiny.yaml --ckpt_path {RUN}", "--ckpt_path"),
    Fault("a checkpoint that was cut off", TEST, "runs/tiny/version_0/checkpoints/best.ckpt", {BEST: half}),
    Fault("a checkpoint of zero bytes", TEST, "runs/tiny/version_0/checkpoints/best.ckpt", {BEST: ""}),
    Fault("a text in the place of a checkpoint", "test --config tiny.yaml --ckpt_path tiny.yaml", "tiny.yaml"),
    Fault(
        "a tensor in the place of a checkpoint",
        "test --config tiny.yaml --ckpt_path other.pt",
        "/checkpoints/best.ckpt",
        {"other.pt": lambda p: torch.save(torch.zeros(2), p)},
    ),
    Fault(
        "a checkpoint of another program",
        "test --config tiny.yaml --ckpt_path other.ckpt",
        "/checkpoints/best.ckpt",
        {"other.ckpt": foreign},
    ),
    changed(
        "a checkpoint without its policy",
        "runs/tiny/version_0/checkpoints/best.ckpt",
        lambda c: c["mebert"].pop("policy"),
    ),
    changed(
        "a checkpoint of a policy to come",
        "'mebert.policies.Newer'",
        lambda c: c["mebert"].update(policy={"class_path": "mebert.policies.Newer", "init_args": {}}),
    ),
    changed(
        "a checkpoint that lacks a weight",
        "runs/tiny/version_0/checkpoints/best.ckpt",
        lambda c: c["state_dict"].pop("model.exits.0.classifier.3.bias"),
    ),
    changed(
        "a checkpoint with a weight too many",
        "runs/tiny/version_0/checkpoints/best.ckpt",
        lambda c: c["state_dict"].update({"model.extra": torch.zeros(2)}),
    ),
    changed(
        "a checkpoint with weights of another size",
        "runs/tiny/version_0/checkpoints/best.ckpt",
        lambda c: c["state_dict"].update({"model.exits.0.classifier.3.bias": torch.zeros(9)}),
    ),
    Fault(
        "a checkpoint for other labels",
        f"test --config own.yaml --ckpt_path {BEST}",
        "runs/tiny/version_0/checkpoints/best.ckpt",
    ),
    Fault(
        "a speed-up that is not stored",
        f"predict --config tiny.yaml --ckpt_path {BEST} --speedup 7",
        "stored: 1.2, 1.5, 2",
    ),
    Fault("a drop that was not calibrated", f"predict --config tiny.yaml --ckpt_path {BEST} --max_drop 0.01", "0.01"),
    Fault(
        "an exit predictor that was not trained",
        f"predict --config tiny.yaml --ckpt_path {BEST} --engine predicted",
        "predicted",
    ),
    Fault("GLUE's files of other data", f"predict --config tiny.yaml --ckpt_path {BEST} --format glue", "glue"),
    # ---- run folders ----
    Fault("compare: no such run", "compare runs/none", "runs"),
    compared("a run that was not tested", "evaluation.json", Path.unlink),
    compared("a test without its rows", "outputs.safetensors", Path.unlink),
    compared("rows that were cut off", "outputs.safetensors", half),
    compared("rows without labels", "outputs.safetensors", change_tensors(labels=None)),
    compared("a broken evaluation.json", "evaluation.json", BROKEN_JSON),
    compared(
        "an evaluation.json of another kind", "evaluation.json", change_json(metric=None, exits=None, policy=None)
    ),
    compared("a broken config.yaml", "config.yaml", "model: [1\n"),
    compared("a config.yaml without a model", "config.yaml", "trainer:\n  max_epochs: 1\n"),
    Fault(
        "calibrate: a run without its model",
        f"calibrate --model {RUN} --speedup 1.5",
        "'runs/tiny/version_0'",
        {f"{RUN}/model/exits.json": Path.unlink},
    ),
    Fault(
        "calibrate: a broken config.yaml",
        f"calibrate --model {RUN} --speedup 1.5",
        "runs/tiny/version_0/config.yaml",
        {f"{RUN}/config.yaml": "data: [1\n"},
    ),
    Fault(
        "calibrate: a run whose data is of another class",
        f"calibrate --model {RUN} --speedup 1.5",
        "runs/tiny/version_0/config.yaml",
        {f"{RUN}/config.yaml": "data:\n  class_path: nowhere.Data\n"},
    ),
    Fault("inspect: a folder without a model", 'inspect tokenizer --text "a"', "'tokenizer'"),
    Fault(
        "inspect: a checkpoint that was cut off",
        f'inspect {BEST} --text "a"',
        "runs/tiny/version_0/checkpoints/best.ckpt",
        {BEST: half},
    ),
]
