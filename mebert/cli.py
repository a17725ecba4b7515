"""The command line: `python -m mebert {fit,validate,test,predict}`.

LightningCLI does the parsing; this file adds what every run of mebert has: its callbacks, its own folder, its
precision, and a last word on what was saved and what to type next. Commands of their own belong elsewhere.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.model_helpers import is_overridden
from typing_extensions import override

from mebert.callbacks import AccuracySpeedCurve, ExitAccuracy, ExitFLOPs, PredictionWriter
from mebert.callbacks.curriculum_monitor import CurriculumMonitor
from mebert.callbacks.exact_resume import ExactResume
from mebert.callbacks.last_checkpoint import LastCheckpoint
from mebert.callbacks.prediction_writer import stored_threshold
from mebert.callbacks.run_config import RunConfig
from mebert.callbacks.validate_last import ValidateLast
from mebert.checkpoints import find_checkpoint, read_checkpoint
from mebert.data import (
    CurriculumDataModule,
    SyntheticCurriculumDataModule,
    SyntheticEntailmentDataModule,
    TextDataModule,
)
from mebert.errors import UserError
from mebert.modules import CurriculumDistillModule, MultiExitModule, ProtoExitModule
from mebert.noise import silence_known_noise
from mebert.policies import policy_from_spec
from mebert.precision import pick_precision
from mebert.report.closing import print_saved
from mebert.report.run_folder import run_folder

__all__ = ["MebertCLI", "main"]

DESCRIPTION = (
    "Early-exit BERT: train a multi-exit encoder (fit), evaluate it at several speeds (validate, test), classify texts "
    "at a chosen speed (predict). Start with: python -m mebert fit --config configs/quickstart.yaml"
)
NEEDS_CHECKPOINT = ("validate", "test", "predict")
SHORT_NAMES = (
    CurriculumDataModule,
    CurriculumDistillModule,
    MultiExitModule,
    ProtoExitModule,
    SyntheticCurriculumDataModule,
    SyntheticEntailmentDataModule,
    TextDataModule,
)  # resolve once imported
DEFAULT_TOKENIZER = inspect.signature(TextDataModule).parameters["tokenizer"].default


class MebertParser(LightningArgumentParser):
    """Says what is wrong in one line, where argparse prints the whole usage first."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(_essence(message)) from ex


class MebertCLI(LightningCLI):
    """LightningCLI with mebert's callbacks, run folder, precision and checkpoint rules."""

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--experiment",
            type=str,
            default="mebert",
            help="Name: runs go to <trainer.default_root_dir or runs>/<experiment>/version_<n>.",
        )
        parser.add_argument(
            "--test_after_fit",
            type=bool,
            default=True,
            help="After `fit`, test the best checkpoint (the other commands do not read this).",
        )
        parser.link_arguments("data.num_labels", "model.init_args.num_labels", apply_on="instantiate")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/score",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
                # Not `save_last`: with a monitor it writes last.ckpt only when the best one changes.
                "last_checkpoint.filename": "last",
                "last_checkpoint.enable_version_counter": False,
            }
        )
        parser.add_lightning_class_args(ExitAccuracy, "exit_accuracy")
        parser.add_lightning_class_args(AccuracySpeedCurve, "curve")
        parser.add_lightning_class_args(ExitFLOPs, "exit_flops")  # after the curve, which it reads
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(CurriculumMonitor, "curriculum")

    @override
    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand in ("validate", "test"):
            parser.set_defaults({"verbose": False})  # our own tables say it better
        if subcommand == "predict":
            parser.set_defaults({"return_predictions": False})  # the table is written; keep no second copy
        return parser

    # ---- between parsing and instantiation -----------------------------------------------------------------

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        with warnings.catch_warnings():
            # `args` is given on purpose where main([...]) is called from Python.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().parse_arguments(parser, args)
        command = self.config["subcommand"]
        config = self.config[command]
        self._given_model = _flat(config.get("model"))
        self._checkpoint: dict[str, Any] | None = None
        _set_logger(config)
        if config.ckpt_path is not None:
            path = find_checkpoint(str(config.ckpt_path), _experiment_folder(config))
            self._checkpoint = read_checkpoint(path)
            config.ckpt_path = str(path)
        elif command in NEEDS_CHECKPOINT:
            raise UserError(
                f"{command} needs trained exits: add --ckpt_path best (this experiment's newest run) or "
                "--ckpt_path <run folder>/checkpoints/best.ckpt"
            )

    @override
    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        self._say_what_the_checkpoint_overrides(config)
        _name_encoder_once(config)
        if config.trainer.precision is None:
            config.trainer.precision, reason = pick_precision(str(config.trainer.accelerator))
            rank_zero_info(f"precision: {config.trainer.precision} ({reason}; --trainer.precision overrides it)")

    def _say_what_the_checkpoint_overrides(self, config: Namespace) -> None:
        """Lightning lets the checkpoint's hyper-parameters win over the command line; not without a word."""
        if self._checkpoint is None:
            return
        after = _flat(config.get("model"))
        for key, value in self._given_model.items():
            if not key.endswith("num_labels") and key in after and after[key] != value:
                rank_zero_info(f"model.{key}: the checkpoint's {after[key]!r} is used, not {value!r}")

    @override
    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise _user_error_in(error) or error from None

    @override
    def after_instantiate_classes(self) -> None:
        if self._checkpoint is None:
            return
        trained = self._checkpoint.get("hyper_parameters", {}).get("num_labels")
        given = getattr(self.datamodule, "num_labels", trained)
        if trained is not None and trained != given:
            path = self.config[self.subcommand].ckpt_path
            raise UserError(f"{path} was trained for {trained} labels, but this data has {given}: wrong --ckpt_path?")
        speedup = self.config[self.subcommand].predictions.speedup
        if self.subcommand == "predict" and speedup is not None:  # now, before the run has a folder
            saved = self._checkpoint["mebert"]
            name = policy_from_spec(saved["policy"]).name
            stored_threshold(name, saved["operating_points"], speedup)

    @override
    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks[:0] = [ExactResume(), ValidateLast()]  # type: ignore[attr-defined]
        return trainer

    # ---- around training -----------------------------------------------------------------------------------

    def before_fit(self) -> None:
        """Say in one line what is trained."""
        module = self.model
        if isinstance(module, MultiExitModule):
            model = module.model
            parameters = sum(p.numel() for p in model.parameters()) / 1e6
            rank_zero_info(
                f"model: {type(module).__name__}, {model.walk.config.model_type}, "
                f"{parameters:.1f} M parameters, "
                f"{model.num_exits} exits on {model.num_layers} layers, {model.num_labels} labels"
            )

    def after_fit(self) -> None:
        """Test the best checkpoint, save the model as a folder, and say what is where and what comes next."""
        trainer = self.trainer
        config = self.config[self.subcommand]
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        best = next((c.best_model_path for c in checkpoints if c.best_model_path), "")
        if not best:
            rank_zero_info("no checkpoint was written, so nothing is tested or saved")
            return
        tested = config.test_after_fit and is_overridden("test_dataloader", self.datamodule, L.LightningDataModule)
        if tested:
            trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, verbose=False)
        else:
            content = torch.load(best, map_location="cpu", weights_only=True)
            self.model.load_state_dict(content["state_dict"])
            self.model.on_load_checkpoint(content)
        if trainer.is_global_zero:
            folder = run_folder(trainer)
            tokenizer = getattr(self.datamodule, "tokenizer", None)
            self.model.model.save_pretrained(
                folder / "model", tokenizer, self.model.policy, operating_points=self.model.operating_points
            )
            print_saved(folder, Path(best), self.datamodule, self.model)


def main(args: ArgsType = None) -> int:
    """Run one command.

    Args:
        args: Command-line arguments; null takes those of the process.

    Returns:
        The exit status: 0, or 2 for a mistake in what the user gave, told in one line on standard error.
    """
    silence_known_noise()
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m mebert` does: classes of the user's own, by class_path
    try:
        MebertCLI(
            MultiExitModule,
            L.LightningDataModule,
            RunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            # The summary's FLOPs column says 0 for models that it cannot trace; `before_fit` says what
            # matters.
            trainer_defaults={"enable_model_summary": False},
            seed_everything_default=42,
            parser_class=MebertParser,
            # An option cut short is a typing error, not an abbreviation.
            parser_kwargs={"prog": "python -m mebert", "description": DESCRIPTION, "allow_abbrev": False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=args,
        )
    except UserError as error:
        print(f"mebert: error: {error}", file=sys.stderr)
        return 2
    return 0


def _set_logger(config: Namespace) -> None:
    """The default logger: CSV files in the experiment's folder."""
    if config.trainer.logger in (None, True):
        root = config.trainer.default_root_dir or "runs"
        config.trainer.logger = Namespace(
            class_path="lightning.pytorch.loggers.CSVLogger",
            init_args=Namespace(save_dir=str(root), name=config.experiment),
        )


def _experiment_folder(config: Namespace) -> Path:
    """Where the runs of this experiment are, as its (first) logger names it."""
    logger = config.trainer.logger
    if isinstance(logger, list):
        logger = logger[0]
    root = Path(config.trainer.default_root_dir or "runs")
    if not isinstance(logger, Namespace):
        return root
    init = logger.init_args
    return Path(init.get("save_dir") or root) / str(init.get("project") or init.get("name") or "")


def _name_encoder_once(config: Namespace) -> None:
    """Take the tokenizer from the encoder where the data module's was left at its default."""
    model, data = config.model.get("init_args", {}), config.data.get("init_args", {})
    encoder = model.get("encoder")
    if encoder and not model.get("encoder_config") and data.get("tokenizer") == DEFAULT_TOKENIZER:
        data.tokenizer = encoder


def _flat(group: Namespace | None) -> dict[str, Any]:
    return {} if group is None else dict(vars(group.as_flat()))


def _user_error_in(error: BaseException) -> UserError | None:
    """The user's mistake behind what jsonargparse made of it, if that is what it was."""
    if isinstance(error, UserError):
        return error
    behind = [e for e in (error.__cause__, error.__context__) if e is not None]
    return next((found for e in behind if (found := _user_error_in(e)) is not None), None)


def _essence(message: str) -> str:
    """The line of a jsonargparse message that says what is wrong.

    A value that fits none of several types is answered with a list of all types and their errors, most of
    them about `None`, and with the whole value; what helps is the one error about the type that was meant.
    """
    message = re.sub(r'Parser key "([^"]+)":', r"\1:", message)
    head, found, errors = message.partition("Errors:")
    if found:
        errors, _, given = errors.partition("Given value type:")
        parts = [part.strip() for part in re.split(r"(?:^|\n)\s*- ", errors) if part.strip()]
        meant = [part for part in parts if "NoneType" not in part and not part.startswith("Subtypes:")]
        key = head.split(":")[0].strip()
        message = f"{key}: " + "; ".join(meant or parts)
        value = given.partition("Given value:")[2].strip()
        if value and len(value) < 60 and "NestedArg" not in value:
            message += f", got {value}"
    message = re.sub(
        r"Expected a dot import path string: (\S+)", r"no class \1 (give its import path, or a name of mebert)", message
    )
    return " ".join(message.split())
