"""Mistakes that Lightning finds, told like our own: one line, and no empty folder left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from mebert.errors import UserError
from mebert.runtime.distributed import lost_process
from mebert.storage.run_folder import run_folder

__all__ = ["check_seed", "convert_lightning_errors", "trainer_errors"]

LARGEST_SEED = 2**32 - 1  # NumPy's
MONITOR = re.compile(r"ModelCheckpoint\(monitor='(.+?)'\) could not find the monitored key.*: \[(.*?)\]")
WEIGHTS = "Error(s) in loading state_dict"
LEVELS = 3  # runs/<experiment>/<version>


def check_seed(seed: bool | int | None) -> None:
    """Refuse what NumPy takes for no seed.

    Args:
        seed: Of `seed_everything`; a truth value stands for a random one, or none.

    Raises:
        UserError: It is out of range.
    """
    if isinstance(seed, int) and not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed_everything must be from 0 to {LARGEST_SEED}, got {seed}")


@contextmanager
def trainer_errors() -> Iterator[None]:
    """What the Trainer does not take, as a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (MisconfigurationException, ValueError, ImportError) as error:
        raise UserError(f"trainer: {_plain(error).rstrip('.')}; correct that setting") from error


@contextmanager
def convert_lightning_errors(trainer: Any) -> Iterator[None]:
    """What Lightning refuses during a run, as a `UserError`; where nothing has run, the run's folder goes again.

    Args:
        trainer: Whose run it is.

    Raises:
        UserError: A mistake.
    """
    try:
        yield
    except (MisconfigurationException, UserError, RuntimeError) as error:
        if trainer.is_global_zero:
            _remove_empty(run_folder(trainer))  # loggers make it before anything has been checked
        if isinstance(error, MisconfigurationException):
            raise UserError(_plain(error)) from error
        if str(error).startswith(WEIGHTS) and trainer.ckpt_path is not None:
            detail = str(error).splitlines()[1].strip()
            raise UserError(
                f"{trainer.ckpt_path} does not fit the model: {detail} Give the checkpoint of this configuration"
            ) from error
        if lost := lost_process(error):
            raise UserError(lost) from error
        raise


def _plain(error: Exception) -> str:
    text = " ".join(str(error).replace("`", "").split())
    if found := MONITOR.search(text):
        monitor, known = found.groups()
        names = ", ".join(name.strip(" '") for name in known.split(",") if name.strip(" '").startswith("val/"))
        return f"checkpoint.monitor {monitor} is not measured; choose one of {names}"
    return text


def _remove_empty(folder: Path) -> None:
    """Remove a folder, and those that held nothing else."""
    for path in (folder, *folder.parents)[:LEVELS]:
        try:
            path.rmdir()
        except OSError:  # it holds something, or is not there
            return
