"""Lightning's commands, `fit`, `validate`, `test` and `predict`: LightningCLI with mebert's callbacks and rules."""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from typing_extensions import override

from mebert.callbacks.default_callbacks import CALLBACKS
from mebert.callbacks.exact_resume import ExactResume
from mebert.callbacks.exit_summary import ExitSummary
from mebert.callbacks.last_checkpoint import ValidateLast
from mebert.callbacks.progress import set_progress
from mebert.callbacks.stop_on_signal import StopOnSignal
from mebert.choices import ProblemType
from mebert.cli.checkpoint_match import check_match
from mebert.cli.errors import check_seed, convert_lightning_errors, trainer_errors
from mebert.cli.fit_file import OPTIONS, expand
from mebert.cli.help import arrange
from mebert.cli.interruption import ends_cleanly
from mebert.cli.saved_model import save_model
from mebert.cli.settings import Command, experiment_folder, prepare
from mebert.commands.parser import UserErrorParser
from mebert.data.label_names import fill_in_labels
from mebert.errors import UserError, error_chain
from mebert.loggers.wandb_logger import describe_runs, end_runs
from mebert.report.next_steps import print_next, print_saved
from mebert.runtime.log_filters import silence_library_bars
from mebert.runtime.messages import rank_zero_info
from mebert.runtime.terminal import bars_wanted
from mebert.storage.atomic import clear_unfinished
from mebert.storage.checkpoint_io import AtomicCheckpointIO
from mebert.storage.checkpoints import read_checkpoint
from mebert.storage.run_folder import RunFolder, claimed_run, refuse_taken, run_folder
from mebert.storage.stored_weights import store_once

DEFAULTS = {
    "checkpoint.monitor": "val/score",
    "checkpoint.mode": "max",
    "checkpoint.filename": "best",
    "checkpoint.enable_version_counter": False,
    "checkpoint.save_weights_only": True,  # last.ckpt is the one to go on from
    # Not `save_last`: with a monitor it writes last.ckpt only when the best one changes.
    "last_checkpoint.filename": "last",
    "last_checkpoint.enable_version_counter": False,
}
# The predictions are written: no second copy in memory.
COMMAND_DEFAULTS = {"predict": {"return_predictions": False}}


# What a class said while it was made, among the errors of all the types that an option takes.
PROBLEM = re.compile(r"Problem with given class_path '(\S+)':\s*-?\s*(.+)")


def problem_type_of(data: Any) -> ProblemType | None:
    """What a data module says that a label is; None where it does not say."""
    found: ProblemType | None = getattr(data, "problem_type", None)
    return found


class MebertParser(UserErrorParser, LightningArgumentParser):
    """Lightning's parser, which reports a mistake in one line."""


class MebertCLI(LightningCLI):
    """LightningCLI with mebert's callbacks, configuration steps and checkpoint rules.

    Args:
        whole_help: Whether `--help` shows every option.
    """

    def __init__(self, *args: Any, whole_help: bool = False, **kwargs: Any) -> None:
        self.whole_help = whole_help  # read while the parsers are made
        super().__init__(*args, **kwargs)

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        runs = "Name: runs go to <trainer.default_root_dir or runs>/<experiment>/version_<n>."
        parser.add_argument("--experiment", type=str, default="mebert", help=runs)
        tests = "After `fit`, test the best checkpoint (the other commands do not read this)."
        parser.add_argument("--test_after_fit", type=bool, default=True, help=tests)
        tables = "Print all tables of report.md, too."
        parser.add_argument("--verbose", type=bool, nargs="?", const=True, default=False, help=tables)
        parser.link_arguments("data.num_labels", "model.init_args.num_labels", apply_on="instantiate")
        parser.link_arguments("data", "model.init_args.problem_type", problem_type_of, apply_on="instantiate")
        for section, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, section)
        parser.link_arguments("verbose", "curve.verbose")
        parser.set_defaults(DEFAULTS)

    @override
    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.set_defaults(COMMAND_DEFAULTS.get(subcommand, {}))
        arrange(parser, subcommand, self.whole_help)
        return parser

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands; `--verbose` is about our own tables, which say more than Lightning's."""
        own = {"validate": {"verbose"}, "test": {"verbose"}}
        return {name: skipped | own.get(name, set()) for name, skipped in LightningCLI.subcommands().items()}

    @override
    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        quiet = {"verbose": False} if subcommand in ("validate", "test") else {}
        return super()._prepare_subcommand_kwargs(subcommand) | quiet

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        self._words = [str(word) for word in (args if isinstance(args, list) else sys.argv[1:])]
        notes: list[str] = []
        if isinstance(args, list):
            args, notes = expand(args)
            if notes:
                self._subcommand_parsers["fit"].also = OPTIONS
        with warnings.catch_warnings():
            # `args` is given on purpose where main([...]) is called from Python.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().parse_arguments(parser, args)
        for note in notes:  # once all options are known to be right
            rank_zero_info(note)

    @override
    def _parse_ckpt_path(self) -> None:
        """All that changes the parsed configuration, in the order of `mebert.cli.settings`."""
        name = self.config["subcommand"]
        self._command = Command(name, self._words, self.config[name])
        prepare(self._command, self._merge_checkpoint)

    def _merge_checkpoint(self) -> Namespace:
        super()._parse_ckpt_path()
        return self.config[self._command.name]

    @override
    def before_instantiate_classes(self) -> None:
        config = self._command.config
        first_process = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        if self.subcommand == "fit" and first_process:
            for folder in experiment_folder(config)[0].glob("*/checkpoints"):
                clear_unfinished(folder)
                clear_unfinished(folder.parent)
        if not first_process or config.trainer.enable_progress_bar is False or not bars_wanted():
            silence_library_bars()

    @override
    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            if found := PROBLEM.search(str(error)):  # a package that is not installed, for example
                error = UserError(f"{found[1]}: {found[2]}")
            raise next((link for link in error_chain(error) if isinstance(link, UserError)), error) from None

    @override
    def after_instantiate_classes(self) -> None:
        check_match(self._command, self.datamodule, self.model)
        # The run's config.yaml has the names, so that it says the same when the training file is another one or gone.
        settings = self._command.config.data.get("init_args", {})
        fill_in_labels(settings, getattr(self.datamodule, "label_names", None), problem_type_of(self.datamodule))

    @override
    def _set_seed(self) -> None:
        check_seed(self._get(self.config, "seed_everything"))
        super()._set_seed()

    @override
    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        # Before Lightning adds its own to the very list.
        given = self._get(self.config_init, "trainer.callbacks") or []
        if self.subcommand == "predict":  # nothing is logged, and a logger would leave its own files
            kwargs["logger"] = False
        own_bar = any(isinstance(c, ProgressBar) for c in (given if isinstance(given, list) else [given]))
        with trainer_errors():
            trainer = super().instantiate_trainer(**kwargs)
        if not own_bar:
            set_progress(trainer)
        trainer.callbacks[:0] = [ExactResume(), ValidateLast(), ExitSummary()]  # type: ignore[attr-defined]
        trainer.callbacks.append(StopOnSignal(self._words))  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # not where the user has chosen another
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        command = self._command
        describe_runs(trainer.loggers, command.config.experiment, command.name, self.model, self.datamodule)
        return trainer

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        failed = 1
        try:
            with (
                ends_cleanly(self.trainer, training=subcommand == "fit"),
                convert_lightning_errors(self.trainer),
                self._own_folder(),
            ):
                super()._run_subcommand(subcommand)
            failed = 0
        finally:
            end_runs(self.trainer.loggers, failed)  # so that the next one of this process is a run of its own

    def _own_folder(self) -> AbstractContextManager[None]:
        trainer, config = self.trainer, self._command.config
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return nullcontext()
        if self.subcommand == "fit" and getattr(trainer.logger, "_version", None) is not None:
            refuse_taken(run_folder(trainer), config.ckpt_path)
        return claimed_run(trainer, experiment_folder(config)[0])

    def after_fit(self) -> None:
        """Test the best checkpoint, save the model as a folder, and say what is where and what comes next."""
        trainer = self.trainer
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        # That of `checkpoint` comes before others that `trainer.callbacks` may have.
        own = self._get(self.config_init, "checkpoint")
        checkpoints = [own, *(c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint))]
        best = next((c.best_model_path for c in checkpoints if c.best_model_path), "")
        if not best:
            rank_zero_info("no checkpoint was written, so nothing is tested or saved")
            return
        has_test = is_overridden("test_dataloader", self.datamodule, L.LightningDataModule)
        if has_test and self._command.config.test_after_fit:
            trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, weights_only=True, verbose=False)
        else:
            content = read_checkpoint(Path(best))
            self.model.on_load_checkpoint(content)  # first: it makes room for fitted prototypes
            self.model.load_state_dict(content["state_dict"])
            self._get(self.config_init, "curve").report_validation(trainer, self.model)
        if trainer.is_global_zero:
            folder = run_folder(trainer)
            save_model(folder / "model", self.model, self.datamodule)
            self._store_once(RunFolder(folder), Path(best))
            print_saved(folder, Path(best), self.datamodule)

    def _store_once(self, run: RunFolder, best: Path) -> None:
        """What a finished run needs no more: weights beside the model folder's, and the checkpoint to go on from."""
        own, last = (self._get(self.config_init, name) for name in ("checkpoint", "last_checkpoint"))
        here = best.is_file() and RunFolder.of_checkpoint(best).model.resolve() == run.model.resolve()
        if here and own.save_weights_only:
            store_once(best)
        last.discard()

    def _print_next(self) -> None:
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            checkpoint = Path(self._command.config.ckpt_path)
            # That of `predictions`, not another among `trainer.callbacks`.
            used = self._get(self.config_init, "predictions").point or self.model.operating_point
            print_next(self._command.name, checkpoint, run_folder(self.trainer), self.datamodule, self.model, used)

    after_validate = after_test = after_predict = _print_next
