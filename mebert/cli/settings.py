"""What changes a configuration between parsing and the creation of objects, all of it in one place and in this order.

Before: `fit FILE` becomes a configuration (`mebert.cli.fit_file`), which is parsed as if it were the first `--config`.

1. `_set_default_logger`: CSV files in the experiment's folder, which is also where `best` and `last` are looked for.
2. `_require_weights_only`: no checkpoint is opened that could run code.
3. `_continue_requeued_run`: a job that SLURM has requeued continues from its last checkpoint.
4. `_open_checkpoint`: `best` and `last` become a file, which is read and checked.
5. Lightning's merge, in which the checkpoint's hyperparameters win over the command line.
6. `_use_saved_labels`: own files that name no labels have the checkpoint's.
7. `_select_glue_rows`: `predictions.format glue` needs all test rows of its task.
8. `_report_overrides`: settings of the command line that the checkpoint has replaced are logged.
9. `_share_tokenizer`: the data module takes the encoder's tokenizer where none was chosen.
10. `_read_texts_as_trained`: what decides the tokens of a text is the checkpoint's where none was chosen.
11. `_choose_precision`: the precision that this hardware is fast at, where none was chosen.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from mebert.cli.interruption import same_command
from mebert.data.label_names import fill_in_labels
from mebert.data.text_splits import TextSplits
from mebert.data.tokenizers import DEFAULT_LENGTH, stored_settings, tell_unknown_length
from mebert.errors import UserError
from mebert.report.glue_files import glue_splits
from mebert.runtime.messages import rank_zero_info
from mebert.runtime.precision import pick_precision
from mebert.runtime.slurm import requeued_checkpoint
from mebert.storage.checkpoints import DamagedCheckpoint, check_resumable, find_checkpoint, read_checkpoint

DEFAULT_TOKENIZER = inspect.signature(TextSplits).parameters["tokenizer"].default


@dataclass
class Command:
    """One of Lightning's commands; the steps change its section of the configuration in place."""

    name: str
    words: Sequence[str]
    config: Namespace
    given_model: dict[str, Any] = field(default_factory=dict)  # before the checkpoint's replace it, by dotted name
    checkpoint: dict[str, Any] | None = None  # the content of `ckpt_path`


def prepare(command: Command, merge_checkpoint: Callable[[], Namespace]) -> None:
    """Carry out the steps above; `merge_checkpoint` is Lightning's and returns the new configuration."""
    command.given_model = _flat(command.config.get("model"))
    for step in (_set_default_logger, _require_weights_only, _continue_requeued_run, _open_checkpoint):
        step(command)
    command.config = merge_checkpoint()
    for step in (
        _use_saved_labels,
        _select_glue_rows,
        _report_overrides,
        _share_tokenizer,
        _read_texts_as_trained,
        _choose_precision,
    ):
        step(command)


def _set_default_logger(command: Command) -> None:
    config = command.config
    if config.trainer.logger in (None, True):
        files = Namespace(save_dir=str(config.trainer.default_root_dir or "runs"), name=config.experiment)
        config.trainer.logger = Namespace(class_path="lightning.pytorch.loggers.CSVLogger", init_args=files)


def _require_weights_only(command: Command) -> None:
    if command.config.weights_only is False:
        raise UserError(
            "--weights_only false: mebert opens no checkpoint that could run code; leave it out (own checkpoints "
            "hold plain values and tensors)"
        )
    command.config.weights_only = True  # not Lightning's null, which an environment variable can turn into false


def _continue_requeued_run(command: Command) -> None:
    if command.name == "fit" and command.config.ckpt_path is None:
        command.config.ckpt_path = requeued_checkpoint(experiment_folder(command.config)[0], command.words)
        if command.config.ckpt_path is not None:
            rank_zero_info(f"SLURM has started this job again: it continues from {command.config.ckpt_path}")


def _open_checkpoint(command: Command) -> None:
    config = command.config
    if config.ckpt_path is None:
        if command.name == "fit":
            return
        raise UserError(
            f"{command.name} needs trained exits: add --ckpt_path best (this experiment's newest run) or "
            "--ckpt_path <run folder>/checkpoints/best.ckpt"
        )
    path = find_checkpoint(str(config.ckpt_path), *experiment_folder(config))
    try:
        command.checkpoint = read_checkpoint(path)
    except DamagedCheckpoint as error:
        if error.other is None:
            raise
        raise UserError(f"{error}: {same_command(command.words, error.other)}") from error
    if command.name == "fit":
        check_resumable(path, command.checkpoint)
    config.ckpt_path = str(path)


def _use_saved_labels(command: Command) -> None:
    if command.checkpoint is not None:
        settings: Any = command.config.data.get("init_args", {})
        kind = command.checkpoint.get("hyper_parameters", {}).get("problem_type")
        fill_in_labels(settings, command.checkpoint["mebert"].get("label_names"), kind)


def _select_glue_rows(command: Command) -> None:
    if command.name == "predict" and command.config.predictions.format == "glue":
        data: Any = command.config.data.get("init_args", {})
        data["predict_split"] = glue_splits(data.get("task"), data.get("predict_split"))
        if data.get("predict_file") is not None:
            raise UserError("predictions.format glue writes the test rows of a task; leave out data.predict_file")


def _report_overrides(command: Command) -> None:
    if command.checkpoint is None:
        return
    after = _flat(command.config.get("model"))
    for key, value in command.given_model.items():
        used = after.get(key, value)
        # A class may be given by its short or its full path.
        same = _last(used) == _last(value) if key.endswith("class_path") else used == value
        if not same and not key.endswith(("num_labels", "problem_type")):
            rank_zero_info(f"model.{key}: the checkpoint's {used!r} is used, not {value!r}")


def _share_tokenizer(command: Command) -> None:
    model, data = command.config.model.get("init_args", {}), command.config.data.get("init_args", {})
    encoder = model.get("encoder")
    if encoder and not model.get("encoder_config") and data.get("tokenizer") == DEFAULT_TOKENIZER:
        data.tokenizer = encoder


def _read_texts_as_trained(command: Command) -> None:
    data: Any = command.config.data.get("init_args", {})
    saved = None if command.checkpoint is None else command.checkpoint["mebert"].get("texts")
    stored = {"max_length": DEFAULT_LENGTH} | (saved or {})
    if command.checkpoint is not None:
        stored |= stored_settings(saved)
        if saved is None and "max_length" in data and data["max_length"] is None:
            tell_unknown_length(str(command.config.ckpt_path), DEFAULT_LENGTH)
    for name, value in stored.items():
        if name in data and data[name] is None:
            data[name] = value


def _choose_precision(command: Command) -> None:
    trainer = command.config.trainer
    if trainer.precision is None:
        trainer.precision, reason = pick_precision(str(trainer.accelerator))
        rank_zero_info(f"precision: {trainer.precision} ({reason}; --trainer.precision overrides it)")


def experiment_folder(config: Namespace) -> tuple[Path, str | None]:
    """The folder of this experiment's runs, as its (first) logger names it, and the run that is continued, if any.

    Without a logger it is that of the default one.
    """
    logger = config.trainer.logger
    if isinstance(logger, list):
        logger = logger[0]
    root = Path(config.trainer.default_root_dir or "runs")
    if not isinstance(logger, Namespace):
        return root / config.experiment, None
    init = logger.init_args
    root = Path(init.get("save_dir") or root)
    if logger.class_path.endswith("EarlyExitWandbLogger"):
        return root / config.experiment, init.get("id")
    return root / str(init.get("project") or init.get("name") or ""), None


def _flat(group: Namespace | None) -> dict[str, Any]:
    return {} if group is None else dict(vars(group.as_flat()))


def _last(class_path: object) -> str:
    return str(class_path).rpartition(".")[2]
