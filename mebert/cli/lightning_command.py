"""`fit`, `validate`, `test` and `predict` from the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import lightning as L
from lightning.pytorch.cli import ArgsType

import mebert
from mebert.callbacks.run_config import RunConfig
from mebert.cli.config_files import use_strict_loader
from mebert.cli.lightning import MebertCLI, MebertParser
from mebert.errors import UserError
from mebert.modules import MultiExitModule
from mebert.runtime.log_filters import warn_in_one_line


def lightning_command(given: ArgsType) -> None:
    """Run `fit`, `validate`, `test` or `predict`; `--help_all` among the arguments is `--help` with every option."""
    use_strict_loader()
    warn_in_one_line()  # again: Lightning has a form of its own
    for name in mebert.MODULE_OF:  # jsonargparse finds a class by its short name once it is imported
        getattr(mebert, name)
    whole_help = isinstance(given, list) and "--help_all" in given
    if isinstance(given, list):
        _refuse_a_folder_as_class(given)
        given = ["--help" if word == "--help_all" else word for word in given]
    MebertCLI(
        MultiExitModule,
        L.LightningDataModule,
        RunConfig,
        save_config_kwargs={"save_to_log_dir": False},
        # The summary's FLOPs column says 0 for models that it cannot trace; `ExitSummary` says what matters.
        trainer_defaults={"enable_model_summary": False},
        seed_everything_default=42,
        parser_class=MebertParser,
        # An option cut short is a typing error, not an abbreviation.
        parser_kwargs={"prog": "python -m mebert", "allow_abbrev": False},
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        args=given,
        whole_help=whole_help,
    )


def _refuse_a_folder_as_class(words: Sequence[str]) -> None:
    """`predict --model RUN`: our other commands take a trained model so, Lightning's a class."""
    for option, value in zip_longest(words, words[1:], fillvalue=""):
        name, _, own = option.partition("=")
        folder = Path(own or value)
        if name == "--model" and (own or value) and folder.is_dir():
            raise UserError(
                f"--model {folder} is a folder, and this command takes a class there: name the run first: "
                f"python -m mebert {words[0]} {folder}{' my.csv' if words[0] == 'predict' else ''}"
            )
