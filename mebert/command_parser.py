"""What the command line says of a mistake: one line, where argparse prints the whole usage first."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from mebert.errors import UserError
from mebert.help_formatter import HelpFormatter, shorten
from mebert.imported import strict_parsing
from mebert.suggestions import with_suggestion

__all__ = ["CommandParser", "OneLine", "essence"]

# What jsonargparse calls things, and what a reader of YAML calls them.
PLAIN_WORDS = {
    r"Expected a dot import path string: ([^\s,]+)": r"no class \1 (give its import path, or a name of mebert)",
    r"Expected a <class 'int'>": "expected a whole number",
    r"Expected a <class 'float'>": "expected a number",
    r"Expected a <class 'bool'>": "expected true or false",
    r"Expected a <class 'str'>": "expected a text",
    r"Expected a typing\.Literal\[([^\]]*)\]": r"expected one of \1",
    r"\. Got value: ": ", got ",
    r"Problem with given class_path '\S+': Importing '(\S+)' is not allowed.* to allow it\.": (
        r"\1 is not allowed here; name a class of mebert's or of your own"
    ),
    r"Problem with given class_path '(\S+)': No module named '(\S+)'": (
        r"no class \1: there is no package \2; check the spelling, or install it"
    ),
    r"Problem with given class_path '(\S+)': module '(\S+)' has no attribute '(\S+)'": (
        r"no class \1: \2 has no \3; check the spelling"
    ),
    r"; [Ee]xpected a <class 'list'>": " or a list of them",
    r"Import path does not correspond to a subclass of (\w+)": r"not the name of a \1",
}


class OneLine(ArgumentParser):
    """What all our parsers do otherwise than jsonargparse: a mistake in one line, a help in few words."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        strict_parsing()
        super().__init__(*args, **{"formatter_class": HelpFormatter, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(with_suggestion(essence(message), self)) from ex

    def format_help(self) -> str:
        """The help, with what every command has in few words."""
        shorten(self._actions)
        return super().format_help()


class CommandParser(OneLine):
    """The parser of mebert's own commands."""


def essence(message: str) -> str:
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
    message = " ".join(message.split())
    for pattern, plain in PLAIN_WORDS.items():
        message = re.sub(pattern, plain, message)
    return message
