"""What the command line says of a mistake: one line, where argparse prints the whole usage first."""

from __future__ import annotations

import re
from typing import NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from mebert.errors import UserError

__all__ = ["CommandParser", "MebertParser"]


class MebertParser(LightningArgumentParser):
    """The parser of Lightning's commands."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(_essence(message)) from ex


class CommandParser(ArgumentParser):
    """The parser of mebert's own commands."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(_essence(message)) from ex


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
