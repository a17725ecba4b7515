"""What a run is, in the words that loggers sort runs by."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mebert.loggers.wandb_logger import EarlyExitWandbLogger

__all__ = ["describe_runs", "encoder_name", "end_runs"]


def describe_runs(loggers: Iterable[Any], experiment: str, command: str, module: Any, data: Any) -> None:
    """Tell the loggers group, job type and tags, where the user did not.

    Args:
        loggers: Those of the run; only W&B's are told.
        experiment: Its name.
        command: fit, validate, test or predict.
        module: The recipe.
        data: The data module; its `task_name` is the task.
    """
    task = getattr(data, "task_name", type(data).__name__)
    for logger in loggers:
        if isinstance(logger, EarlyExitWandbLogger):
            logger.describe(experiment, command, (type(module).__name__, str(task), encoder_name(module)))


def encoder_name(module: Any) -> str:
    """The Hub id of a module's encoder, the name of its folder, or the kind of one that is built from scratch."""
    settings = getattr(module, "hparams", {})
    if settings.get("encoder_config"):
        return str(settings["encoder_config"].get("model_type", ""))
    encoder = str(settings.get("encoder") or "")
    return Path(encoder).resolve().name if Path(encoder).is_dir() else encoder


def end_runs(loggers: Iterable[Any], exit_code: int) -> None:
    """Finish what the loggers have started.

    Args:
        loggers: Those of the run; only W&B's have anything to finish.
        exit_code: 0 where the command went well.
    """
    for logger in loggers:
        if isinstance(logger, EarlyExitWandbLogger):
            logger.end_run(exit_code)
