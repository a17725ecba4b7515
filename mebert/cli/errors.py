"""Mistakes that Lightning finds, reported like our own: one line, and no empty folder left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from traceback import walk_tb
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from mebert.errors import UserError
from mebert.runtime.distributed import lost_process
from mebert.storage.json_values import summary
from mebert.storage.run_folder import run_folder

RESTORING = "lightning.pytorch.trainer.connectors.checkpoint_connector"
LARGEST_SEED = 2**32 - 1  # that NumPy takes
# PyTorch has no type of its own for weights that do not fit a module; the fault is in the second line.
WRONG_WEIGHTS = re.compile(r"Error\(s\) in loading state_dict.*\n\s*(.*)")


def check_seed(seed: bool | int | None) -> None:
    """Refuse a seed out of range; a boolean asks for a random seed, or for none."""
    if isinstance(seed, int) and not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed_everything must be from 0 to {LARGEST_SEED}, got {seed}")


@contextmanager
def trainer_errors() -> Iterator[None]:
    """Convert what the Trainer does not accept into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (MisconfigurationException, ValueError, ImportError) as error:
        raise UserError(f"trainer: {_plain(error).rstrip('.')}; correct that setting") from error


@contextmanager
def convert_lightning_errors(trainer: Any) -> Iterator[None]:
    """Convert what Lightning refuses during a run into a `UserError`, and remove the run's folder if it is empty."""
    try:
        yield
    except (MisconfigurationException, UserError, RuntimeError) as error:
        if trainer.is_global_zero:
            folder = run_folder(trainer)  # loggers make it before anything has been checked
            with suppress(OSError):  # it holds something, or is not there
                for path in (folder, folder.parent, folder.parent.parent):  # runs/<experiment>/<version>
                    path.rmdir()
        if isinstance(error, MisconfigurationException):
            raise UserError(_unknown_monitor(trainer) or _plain(error)) from error
        if trainer.ckpt_path is not None and (found := WRONG_WEIGHTS.search(str(error))):
            raise UserError(
                f"{trainer.ckpt_path} does not fit the model: {found[1]} Give the checkpoint of this configuration"
            ) from error
        if lost := lost_process(error):
            raise UserError(lost) from error
        if told := _restoring(trainer, error):
            raise told from error
        raise
    except Exception as error:
        if told := _restoring(trainer, error):
            raise told from error
        raise


def _restoring(trainer: Any, error: Exception) -> UserError | None:
    """What to say of an exception that was raised while a checkpoint's values were put into place."""
    found = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_globals.get("__name__") == RESTORING]
    names = [frame.f_code.co_name.lstrip("_") for frame in found]
    if trainer.ckpt_path is None or not any(name.startswith(("restore", "resume")) for name in names):
        return None
    told = isinstance(error, UserError) and str(trainer.ckpt_path) in str(error)
    if told or isinstance(error, NameError | ImportError):  # the latter are of a program, whatever the values
        return None
    if isinstance(error, UserError):  # which says what to do
        return UserError(f"{trainer.ckpt_path}: {error}")
    return UserError(f"{trainer.ckpt_path} cannot be loaded: {summary(error)}; give another checkpoint, or train anew")


def _unknown_monitor(trainer: Any) -> str | None:
    """What to say if a checkpoint monitors a metric that validation has not logged."""
    known = [name for name in trainer.callback_metrics if name.startswith("val/")]
    for callback in trainer.checkpoint_callbacks:
        monitor = getattr(callback, "monitor", None)
        if known and monitor is not None and monitor not in trainer.callback_metrics:
            return f"checkpoint.monitor {monitor} is not measured; choose one of {', '.join(known)}"
    return None


def _plain(error: Exception) -> str:
    return " ".join(str(error).replace("`", "").split())
