"""Finding and checking the checkpoint that a command line names."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from mebert.errors import UserError

__all__ = ["find_checkpoint", "read_checkpoint"]

KEYWORDS = ("last", "best")


def find_checkpoint(given: str, experiment_folder: Path) -> Path:
    """The file that `--ckpt_path` means.

    Args:
        given: A path, or `last` or `best` of the newest run of this experiment that has one.
        experiment_folder: Holds the experiment's runs, each with its `checkpoints/`.

    Raises:
        UserError: There is none.
    """
    if given not in KEYWORDS:
        path = Path(given)
        if not path.is_file():
            hint = "it is a folder; name the file in it" if path.is_dir() else "no such file"
            raise UserError(f"--ckpt_path {given}: {hint} (or `last` or `best`)")
        return path
    found = sorted(
        experiment_folder.glob(f"*/checkpoints/{given}.ckpt"),
        key=lambda path: (path.stat().st_mtime_ns, path.as_posix()),
    )
    if not found:
        raise UserError(
            f"--ckpt_path {given}: no {experiment_folder}/*/checkpoints/{given}.ckpt; "
            "train first: python -m mebert fit --config <the same config>"
        )
    return found[-1]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of mebert, its tensors not read but mapped, so that looking into it is quick.

    Raises:
        UserError: It is damaged, or some other file.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is not a readable checkpoint: {str(error).strip().splitlines()[0]}") from error
    if not isinstance(content, dict) or "state_dict" not in content or "mebert" not in content:
        raise UserError(
            f"{path} is not a checkpoint of mebert; `fit` writes them as <run folder>/checkpoints/best.ckpt"
        )
    return content
