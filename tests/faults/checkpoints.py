"""Checkpoints and run folders: not there, damaged, of another program, of other settings."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from faults.fault import RUN, Content, Fault, change_checkpoint, change_json, change_tensors, half

BEST = f"{RUN}/checkpoints/best.ckpt"
TEST = "test --config tiny.yaml "
PREDICT = f"predict --config tiny.yaml --ckpt_path {BEST} "
CALIBRATE = f"calibrate --model {RUN} --speedup 1.5"
CONFIG = f"{RUN}/config.yaml"
WHOLE = "last.ckpt, which is whole"
BIAS = "model.exits.0.classifier.3.bias"
NEWER = {"class_path": "mebert.policies.Newer", "init_args": {}}


def stored(what: str, says: str, content: object) -> Fault:
    """`test` with a file that PyTorch wrote, and that is no checkpoint of ours."""
    return Fault(what, f"{TEST} --ckpt_path other.pt", says, {"other.pt": lambda path: torch.save(content, path)})


def changed(what: str, says: str, change: Callable[[dict[str, Any]], object]) -> Fault:
    """`test` with a checkpoint whose content was changed."""
    return Fault(what, f"{TEST} --ckpt_path {BEST}", says, {BEST: change_checkpoint(change)})


def compared(what: str, says: str, name: str, content: Content) -> Fault:
    """`compare` of a run with one other file."""
    return Fault(f"compare: {what}", f"compare {RUN}", (f"{RUN}", says), {f"{RUN}/{name}": content})


FAULTS = [
    Fault("test without a checkpoint", TEST, "test needs trained exits: add --ckpt_path best"),
    Fault("best, before anything was trained", TEST + "--experiment new --ckpt_path best", "no runs/new/*/checkpoints"),
    Fault(
        "last, in another folder",
        "fit --config tiny.yaml --trainer.default_root_dir other --ckpt_path last",
        "--ckpt_path last: no other/tiny/*/checkpoints/last.ckpt",
    ),
    Fault(
        "best, where a training is to go on",
        f"fit --config tiny.yaml --ckpt_path {BEST}",
        ("weights alone and no state of the optimizer", "last.ckpt"),
    ),
    Fault(
        "last, where the training is finished",
        "fit --config tiny.yaml --ckpt_path last",
        ("is finished, and its last.ckpt was removed", "--last_checkpoint.keep true"),
        {f"{RUN}/checkpoints/last.ckpt": Path.unlink},
    ),
    Fault(
        "a checkpoint without the model folder of its run",
        TEST + f"--ckpt_path {BEST}",
        (f"{RUN}/model/exits.safetensors is missing", "copy the run's folder whole"),
        {f"{RUN}/model": shutil.rmtree},
    ),
    Fault("a checkpoint that is not there", TEST + "--ckpt_path none.ckpt", "--ckpt_path none.ckpt: no such file"),
    Fault("a run in the place of its checkpoint", TEST + f"--ckpt_path {RUN}", "it is a folder; name the file in it"),
    Fault("a checkpoint that was cut off", TEST + f"--ckpt_path {BEST}", ("cut off", WHOLE), {BEST: half}),
    Fault("a checkpoint of zero bytes", TEST + f"--ckpt_path {BEST}", ("an empty file", WHOLE), {BEST: ""}),
    Fault("a text in the place of a checkpoint", TEST + "--ckpt_path tiny.yaml", "or is some other file"),
    stored("a tensor in the place of a checkpoint", "other.pt is not a checkpoint of mebert", torch.zeros(2)),
    stored(
        "a checkpoint of another program",
        "other.pt is not a checkpoint of mebert",
        {"state_dict": {"weight": torch.zeros(2)}, "epoch": 1, "pytorch-lightning_version": "2.6.0"},
    ),
    changed("a checkpoint without its policy", "it lacks the key 'mebert.policy'", lambda c: c["mebert"].pop("policy")),
    changed("a checkpoint of a policy to come", "'mebert.policies.Newer'", lambda c: c["mebert"].update(policy=NEWER)),
    changed("a checkpoint that lacks a weight", "Missing key(s)", lambda c: c["state_dict"].pop(BIAS)),
    Fault(
        "a checkpoint for other labels",
        f"test --config own.yaml --ckpt_path {BEST}",
        "'good' is none of the classes ent",
    ),
    Fault(
        "a checkpoint for more labels",
        f"""test --config own.yaml --data.labels '["good", "bad"]' --ckpt_path {BEST}""",
        "trained for 3 labels, but",
    ),
    Fault("a speed-up that is not stored", PREDICT + "--speedup 7", "stored: 1.2, 1.5, 2"),
    Fault("a drop that was not calibrated", PREDICT + "--max_drop 0.01", "a largest drop of 0.01"),
    Fault("a drop in percent", PREDICT + "--max_drop 1", "for 1 % give predictions.max_drop 0.01"),
    Fault("a speed-up and a drop", PREDICT + "--speedup 1.2 --max_drop 0.1", "max_drop were both given"),
    Fault("an exit predictor that was not trained", PREDICT + "--engine predicted", "no exit predictor is stored"),
    Fault("GLUE's files of other data", PREDICT + "--format glue", "is for GLUE's tasks, not for other data"),
    # ---- run folders ----
    Fault("compare: no such run", "compare runs/none", "runs/none is not a folder"),
    compared("a run that was not tested", "it lacks evaluation.json", "evaluation.json", Path.unlink),
    compared("rows that were cut off", "incomplete metadata", "outputs.safetensors", half),
    compared("rows without labels", "it lacks labels", "outputs.safetensors", change_tensors(labels=None)),
    compared("a broken evaluation.json", "line 1 column 29", "evaluation.json", '{"policy": "edr", "metric": '),
    compared(
        "an evaluation.json of another kind", "it lacks the key 'policy'", "evaluation.json", change_json(policy=None)
    ),
    compared("a broken config.yaml", "while parsing a flow sequence", "config.yaml", "model: [1\n"),
    compared("a config.yaml without a model", "lacks model", "config.yaml", "trainer:\n  max_epochs: 1\n"),
    Fault(
        "calibrate: a run without its model",
        CALIBRATE,
        "it has no folder model with exits",
        {f"{RUN}/model/exits.json": Path.unlink},
    ),
    Fault("calibrate: a broken config.yaml", CALIBRATE, "is no configuration of a run", {CONFIG: "data: [1\n"}),
    Fault(
        "calibrate: a run whose data is of another class",
        CALIBRATE,
        ("cannot create its data module", "of the class 'nowhere.Data'"),
        {CONFIG: "data:\n  class_path: nowhere.Data\n"},
    ),
    Fault("inspect: a folder without a model", "inspect tokenizer --text a", "tokenizer: it holds no exits"),
]
