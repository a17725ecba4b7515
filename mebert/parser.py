"""The parser of Lightning's commands."""

from __future__ import annotations

from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from mebert.command_parser import CommandParser, essence
from mebert.errors import UserError
from mebert.help_formatter import HelpFormatter, shorten
from mebert.imported import strict_parsing
from mebert.suggestions import with_suggestion

__all__ = ["CommandParser", "MebertParser"]


class MebertParser(LightningArgumentParser):
    """Lightning's, which tells a mistake in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        strict_parsing()
        super().__init__(*args, **{"formatter_class": HelpFormatter, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(with_suggestion(essence(message), self)) from ex

    def format_help(self) -> str:
        """The help, with what every command has in few words."""
        shorten(self._actions)
        return super().format_help()
