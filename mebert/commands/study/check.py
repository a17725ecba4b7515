"""Settings that no run could take, told before the first run begins."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
from jsonargparse import ArgumentError

from mebert.callbacks.default_callbacks import CALLBACKS
from mebert.commands.parser import CommandParser
from mebert.commands.study.grid import Cell
from mebert.commands.study.settings import SECTIONS
from mebert.errors import UserError
from mebert.modules import MultiExitModule

__all__ = ["check_settings"]


def check_settings(cells: Sequence[Cell]) -> None:
    """Parse the sections of every recipe on every task, as `fit` would, and make nothing of them.

    Raises:
        UserError: A class or an argument is not known, or a value is of the wrong kind.
    """
    parser = CommandParser(exit_on_error=False)
    parser.add_subclass_arguments(MultiExitModule, "model")
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    parser.add_class_arguments(L.Trainer, "trainer")
    for section, callback in CALLBACKS.items():
        parser.add_class_arguments(callback, section, fail_untyped=False)  # as LightningCLI adds them
    for cell in {(cell.recipe, cell.task): cell for cell in cells}.values():
        try:
            parser.parse_object({part: content for part, content in cell.config.items() if part in SECTIONS})
        except (UserError, ArgumentError) as error:
            raise UserError(f"recipe {cell.recipe}, task {cell.task}: {error}") from error
