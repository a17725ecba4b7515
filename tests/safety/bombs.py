"""Files that would run code: what they would do is make a marker, which nothing of mebert may ever make."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch

from mebert.cli.main import main

CODE = """
open({marker!r}, "w").close()

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
import datasets, mebert


class Config(PretrainedConfig):
    model_type = "evil"


class Model(PreTrainedModel):
    config_class = Config


class Tokenizer(PreTrainedTokenizerFast):
    pass


class Policy(mebert.Entropy):
    pass


class Module(mebert.MultiExitModule):
    pass


class Data(mebert.SyntheticEntailmentDataModule):
    pass
"""


class Bomb:
    """Unpickled, it makes the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def error_of(capsys, *args: str) -> str:
    """Run a command that must end with one line of error, which is returned."""
    capsys.readouterr()
    assert main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.count("mebert: error: ") == 1
    return err[err.index("mebert: error: ") :]


def write_code(path: Path, marker: Path) -> Path:
    """A Python file with whatever class may be asked for."""
    path.write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    return path


def write_json(path: Path, **more: object) -> None:
    """Add keys to a JSON file, which may be missing."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(content | more), encoding="utf-8")


def write_pickle(path: Path, marker: Path, how: str = "torch") -> Path:
    """A pickle with a bomb in it: a checkpoint, an old PyTorch file, or a bare one."""
    bomb = {"state_dict": {}, "mebert": {}, "hyper_parameters": Bomb(marker)}
    if how == "bare":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path, _use_new_zipfile_serialization=how == "torch")
    return path
