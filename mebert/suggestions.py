"""What may be meant by an option that a parser does not know."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterable
from difflib import get_close_matches

from mebert import _HOMES

__all__ = ["with_suggestion"]

UNKNOWN = (
    re.compile(r"unrecognized arguments: (?P<dashes>--)(?P<name>[\w.]+)"),
    re.compile(r"does not accept option '(?P<dashes>)(?P<name>[\w.]+)'"),
    re.compile(r"Option '(?P<dashes>)(?P<name>[\w.]+)' is not accepted"),
)


CLASS = re.compile(r"no class ([\w.]+)")


def with_suggestion(message: str, parser: ArgumentParser) -> str:
    """The message and, where it complains of an option or a class, the nearest one that there is.

    Args:
        message: What the parser found.
        parser: Whose options, and those of its subcommands, may be meant.
    """
    if "did you mean" in message:
        return message
    if named := CLASS.search(message):
        near = get_close_matches(named[1].rpartition(".")[2], _HOMES, n=1, cutoff=0.8)
        return f"{message}; did you mean {near[0]}?" if near else message
    found = next((match for pattern in UNKNOWN if (match := pattern.search(message))), None)
    if found is None:
        return message
    near = get_close_matches(found["name"], _options(parser), n=1, cutoff=0.7)
    return f"{message}; did you mean {found['dashes']}{near[0]}?" if near else message


def _options(parser: ArgumentParser) -> set[str]:
    names: set[str] = set()
    for action in parser._actions:
        names |= {option.lstrip("-").rstrip("+") for option in action.option_strings if option.startswith("--")}
        parsers: Iterable[object] = action.choices.values() if isinstance(action.choices, dict) else ()
        for inner in parsers:
            if isinstance(inner, ArgumentParser):
                names |= _options(inner)
    return names
