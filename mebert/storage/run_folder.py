"""Where a run writes: one folder for everything it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning import Trainer

__all__ = ["run_folder"]


def run_folder(trainer: Trainer) -> Path:
    """The folder of this run: `save_dir/name/version` of its first logger.

    This is where `ModelCheckpoint` puts `checkpoints/`, for every logger alike; without a logger it is the
    Trainer's `default_root_dir`. Only rank 0's answer counts: a logger may number its versions differently
    elsewhere.
    """
    logger = trainer.logger
    root = Path(trainer.default_root_dir)
    if logger is None:
        return root
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(logger.save_dir or root) / str(logger.name) / version
