"""What the command line says of a mistake: one line, where argparse prints the whole usage first."""

from __future__ import annotations

import inspect
import json
import re
from argparse import Action
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from mebert import _HOMES
from mebert.errors import UserError
from mebert.storage.trusted_classes import strict_parsing

__all__ = [
    "CommandParser",
    "HelpFormatter",
    "UserErrorParser",
    "normalize_args",
    "plain_type",
    "shorten",
    "summarize_parse_error",
    "with_suggestion",
]


def normalize_args(function: Callable[..., Any], args: Sequence[str]) -> list[str]:
    """The arguments of a command as jsonargparse wants them: `--list` as `--list true`, `--only a b` as one list.

    A list of texts that is given twice is one list. Words before the first option are the first parameter's, if that is
    a list; if it is a text, the first of them.

    Args:
        function: The command's; its parameters' annotations say which options are switches and which lists.
        args: What follows the command's name.
    """
    kinds = {f"--{p.name}": str(p.annotation) for p in inspect.signature(function).parameters.values()}
    found: list[str] = []
    rest, places = list(args), dict[str, int]()
    first = next(iter(kinds), "")
    if rest and not rest[0].startswith("-") and kinds[first].startswith(("list[", "str")):
        rest.insert(0, first)  # words before any option: `compare RUN RUN`, `inspect RUN --text ...`
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        kind = kinds.get(option, "")
        if equals and not kind.startswith("list[str]"):
            found.append(f"{option}={value}")
            continue
        found.append(option)
        if equals:  # one word of a list, and the only way to write one that begins with two dashes
            rest.insert(0, value)
        words = [value] if equals else list(takewhile(lambda word: not word.startswith("--"), rest))
        if kind in ("bool", "<class 'bool'>") and not words:
            found.append("true")
        elif kind.startswith("list[str]") and words and not _is_list(words):
            del rest[: len(words)]
            if option in places:  # given before: jsonargparse would keep the last one alone
                found.pop()
                place = places[option]
                found[place] = json.dumps(json.loads(found[place]) + words)
            else:
                found.append(json.dumps(words))
                places[option] = len(found) - 1
        elif (kind.startswith("list[") and words and not words[0].startswith("[")) or _one_or_several(kind, words):
            del rest[: len(words)]
            found.append(f"[{','.join(words)}]")
    return found


def _one_or_several(kind: str, words: Sequence[str]) -> bool:
    """Whether words are several values of an option that takes one value or a list of them."""
    return "| list[" in kind and len(words) > 1 and not words[0].startswith("[")


def _is_list(words: Sequence[str]) -> bool:
    """Whether words are one list as YAML writes it, and not texts of which the first begins with a bracket."""
    if len(words) != 1 or not words[0].startswith("["):
        return False
    try:
        return isinstance(yaml.safe_load(words[0]), list)
    except yaml.YAMLError:
        return False


PRINT_CONFIG = "Print the configuration that all arguments make, and exit."


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, with examples as they are written and each option by its own name alone."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs are filled; one with indented lines is a list of commands, and stays as it is."""
        parts = re.split(r"\n\s*\n", text.strip("\n"))
        kept = [
            part if "\n  " in part else super(HelpFormatter, self)._fill_text(part, width, indent) for part in parts
        ]
        return "\n\n".join(kept)

    def add_argument(self, action: Action) -> None:
        """As argparse, without those that are marked as hidden."""
        if not getattr(action, "hidden", False):
            super().add_argument(action)

    def _get_help_string(self, action: Action) -> str:
        if getattr(action, "plain_help", False):  # words that say what may be given: no list of all types
            return f"{action.help} (default: %(default)s)"
        return super()._get_help_string(action)

    def _get_type_str(self, action: Action) -> str | None:
        found = super()._get_type_str(action)
        return None if found is None else plain_type(found)

    def _format_action_invocation(self, action: Action) -> str:
        names = action.option_strings
        try:
            # `--runs+` adds to a list of a configuration; words after `--runs` are what people type.
            action.option_strings = [name for name in names if not name.endswith("+")]
            return super()._format_action_invocation(action)
        finally:
            action.option_strings = names


def plain_type(written: str) -> str:
    """A type as one says what may be given.

    >>> plain_type("Optional[Literal['a', 'b']]"), plain_type("Union[float, list[float], null]")
    ('a | b | null', 'float | list[float] | null')

    Args:
        written: As jsonargparse writes it.
    """
    written = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), written)
    written = re.sub(r"^Optional\[(.*)\]$", r"\1 | null", written)
    union = re.fullmatch(r"Union\[(.*)\]", written)
    return written if union is None else re.sub(r", (?![^\[]*\])", " | ", union[1])


def shorten(actions: list[Action]) -> None:
    """Say in one line what jsonargparse says in six.

    Args:
        actions: Of a parser.
    """
    for action in actions:
        if "--print_config" in action.option_strings:
            action.help = PRINT_CONFIG


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


class UserErrorParser(ArgumentParser):
    """What all our parsers do otherwise than jsonargparse: a mistake in one line, a help in few words."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        strict_parsing()
        super().__init__(*args, **{"formatter_class": HelpFormatter, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(with_suggestion(summarize_parse_error(message), self)) from ex

    def format_help(self) -> str:
        """The help, with what every command has in few words."""
        shorten(self._actions)
        return super().format_help()


class CommandParser(UserErrorParser):
    """The parser of mebert's own commands."""


def summarize_parse_error(message: str) -> str:
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
