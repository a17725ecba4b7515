"""What a parsed configuration is given before anything is made of it: its logger, its tokenizer, its rows."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from mebert.data import TextDataModule
from mebert.errors import UserError
from mebert.report.glue_files import glue_splits

__all__ = ["experiment_folder", "flat", "name_encoder_once", "predict_glue", "same", "set_logger", "user_error_in"]

DEFAULT_TOKENIZER = inspect.signature(TextDataModule).parameters["tokenizer"].default


def set_logger(config: Namespace) -> None:
    """The default logger: CSV files in the experiment's folder."""
    if config.trainer.logger in (None, True):
        root = config.trainer.default_root_dir or "runs"
        config.trainer.logger = Namespace(
            class_path="lightning.pytorch.loggers.CSVLogger",
            init_args=Namespace(save_dir=str(root), name=config.experiment),
        )


def experiment_folder(config: Namespace) -> tuple[Path, str | None]:
    """Where the runs of this experiment are, as its (first) logger names it, and the run that goes on, if any."""
    logger = config.trainer.logger
    if isinstance(logger, list):
        logger = logger[0]
    root = Path(config.trainer.default_root_dir or "runs")
    if not isinstance(logger, Namespace):
        return root, None
    init = logger.init_args
    root = Path(init.get("save_dir") or root)
    if logger.class_path.endswith("EarlyExitWandbLogger"):
        return root / config.experiment, init.get("id")
    return root / str(init.get("project") or init.get("name") or ""), None


def name_encoder_once(config: Namespace) -> None:
    """Take the tokenizer from the encoder where the data module's was left at its default."""
    model, data = config.model.get("init_args", {}), config.data.get("init_args", {})
    encoder = model.get("encoder")
    if encoder and not model.get("encoder_config") and data.get("tokenizer") == DEFAULT_TOKENIZER:
        data.tokenizer = encoder


def predict_glue(data: Any) -> None:
    """Let a data module predict all test rows that GLUE's files want of its task; refuse other data."""
    data["predict_split"] = glue_splits(data.get("task"), data.get("predict_split"))
    if data.get("predict_file") is not None:
        raise UserError("predictions.format glue writes the test rows of a task; leave out data.predict_file")


def flat(group: Namespace | None) -> dict[str, Any]:
    """Settings by their dotted names; none of nothing."""
    return {} if group is None else dict(vars(group.as_flat()))


def same(key: str, value: Any, other: Any) -> bool:
    """Whether two settings say the same; a class may be named by its short path or its whole one."""
    if key.endswith("class_path"):
        return str(value).rpartition(".")[2] == str(other).rpartition(".")[2]
    return bool(value == other)


def user_error_in(error: BaseException) -> UserError | None:
    """The user's mistake behind what jsonargparse made of it, if that is what it was."""
    if isinstance(error, UserError):
        return error
    behind = [e for e in (error.__cause__, error.__context__) if e is not None]
    return next((found for e in behind if (found := user_error_in(e)) is not None), None)
