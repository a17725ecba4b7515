"""Group, job type and tags of a run for the loggers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mebert.loggers.wandb_logger import EarlyExitWandbLogger


def describe_runs(loggers: Iterable[Any], experiment: str, command: str, module: Any, data: Any) -> None:
    """Set group (the experiment), job type (the command) and tags (recipe, task, encoder) of W&B's runs.

    Whatever the user has set stays.
    """
    task = getattr(data, "task_name", type(data).__name__)
    for logger in loggers:
        if isinstance(logger, EarlyExitWandbLogger):
            logger.describe(experiment, command, (type(module).__name__, str(task), encoder_name(module)))


def encoder_name(module: Any) -> str:
    """The Hub id of a module's encoder, the name of its folder, or the model type of one built from a configuration."""
    settings = getattr(module, "hparams", {})
    if settings.get("encoder_config"):
        return str(settings["encoder_config"].get("model_type", ""))
    encoder = str(settings.get("encoder") or "")
    return Path(encoder).resolve().name if Path(encoder).is_dir() else encoder


def end_runs(loggers: Iterable[Any], exit_code: int) -> None:
    """Finish W&B's runs.

    Args:
        loggers: All of the run.
        exit_code: 0 if the command succeeded.
    """
    for logger in loggers:
        if isinstance(logger, EarlyExitWandbLogger):
            logger.end_run(exit_code)
