"""The parser of Lightning's commands."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from mebert.command_parser import CommandParser, OneLine

__all__ = ["CommandParser", "MebertParser"]


class MebertParser(OneLine, LightningArgumentParser):
    """Lightning's, which tells a mistake in one line."""
