"""The parser of all commands: how arguments may be typed, the layout of the help, and an error as one line."""

from __future__ import annotations

import inspect
import json
import re
from argparse import Action
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace
from jsonargparse._paths import PathError

from mebert import MODULE_OF
from mebert.errors import UserError
from mebert.storage.trusted_classes import strict_parsing

# jsonargparse's errors have a text and nothing else; what stands for it, in the words of a reader of YAML.
REWORDED = {
    r"Expected a dot import path string: ([^\s,]+)": r"no class \1 (give its import path, or a name of mebert)",
    r"Expected a <class 'int'>": "expected a whole number",
    r"Expected a <class 'float'>": "expected a number",
    r"Expected a <class 'bool'>": "expected true or false",
    r"Expected a <class 'str'>": "expected a string",
    r"Expected a typing\.Literal\[([^\]]*)\]": r"expected one of \1",
    r"; [Ee]xpected a <class 'list'>": " or a list of them",
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
    r"Import path does not correspond to a subclass of (\w+)": r"not the name of a \1",
}
UNKNOWN_OPTION = re.compile(
    r"(?:unrecognized arguments: (?P<dashes>--)|does not accept option '|Option ')(?P<name>[\w.]+)"
)
UNKNOWN_CLASS = re.compile(r"no class ([\w.]+)")
LONGEST_VALUE = 60
PRINT_CONFIG = "Print the configuration that all arguments make, and exit."


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, with examples as they are written, each option by its own name, and types in plain words."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs are filled; one with indented lines is a list of commands and stays as it is."""
        fill = super()._fill_text
        parts = re.split(r"\n\s*\n", text.strip("\n"))
        return "\n\n".join(part if "\n  " in part else fill(part, width, indent) for part in parts)

    def add_argument(self, action: Action) -> None:
        if not getattr(action, "hidden", False):
            super().add_argument(action)

    def _get_help_string(self, action: Action) -> str:
        if getattr(action, "plain_help", False):  # the text says what may be given: no list of all types
            return f"{action.help} (default: %(default)s)"
        return super()._get_help_string(action)

    def _get_type_str(self, action: Action) -> str | None:
        found = super()._get_type_str(action)
        return None if found is None else plain_type(found)

    def _format_action_invocation(self, action: Action) -> str:
        names = action.option_strings
        try:
            # `--runs+` adds to a list of a configuration; on the command line one types words after `--runs`.
            action.option_strings = [name for name in names if not name.endswith("+")]
            return super()._format_action_invocation(action)
        finally:
            action.option_strings = names


class ConfigFileError(UserError):
    """A configuration file that cannot be used, whatever the option that names it takes."""


class UserErrorParser(ArgumentParser):
    """A parser that reports an error as a `UserError` of one line and has a short help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        strict_parsing()
        super().__init__(*args, **{"formatter_class": HelpFormatter, **kwargs})

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **kwargs: Any) -> Namespace:
        try:
            return super().parse_args(args, *more, **kwargs)
        except UnicodeDecodeError as error:  # of a configuration file
            names = [word.rpartition("=")[2] for word in self.args]
            given = [name for name in names if Path(name).is_file() and Path(name).read_bytes() == error.object]
            raise UserError(f"{', '.join(given)}: not UTF-8 text; save the file as UTF-8") from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        causes = [] if ex is None else list(_causes(ex))
        in_file = next((str(link) for link in causes if isinstance(link, ConfigFileError)), None)
        text = in_file or summarize_parse_error(message)
        if any(isinstance(link, PathError) for link in causes):
            text += f"; check the path (it is relative to {Path.cwd()})"
        raise UserError(text + self._suggestion(text)) from ex

    def _suggestion(self, message: str) -> str:
        """The nearest class or option to one that is not known."""
        near: list[str] = []
        dashes = ""
        if named := UNKNOWN_CLASS.search(message):
            near = get_close_matches(named[1].rpartition(".")[2], MODULE_OF, n=1, cutoff=0.8)
        elif found := UNKNOWN_OPTION.search(message):
            near = get_close_matches(found["name"], _options(self), n=1, cutoff=0.7)
            dashes = found["dashes"] or ""
        return f"; did you mean {dashes}{near[0]}?" if near and "did you mean" not in message else ""

    def format_help(self) -> str:
        for action in self._actions:
            if "--print_config" in action.option_strings:
                action.help = PRINT_CONFIG
        return super().format_help()


class CommandParser(UserErrorParser):
    """The parser of mebert's own commands."""


def normalize_args(function: Callable[..., Any], args: Sequence[str]) -> list[str]:
    """The arguments of a command as jsonargparse wants them: `--list` as `--list true`, `--only a b` as one list.

    A list of strings that is given twice is one list. Words before the first option belong to the first parameter if
    that is a list; if it is a string, the first of them does.

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
        is_open_list = bool(words) and not words[0].startswith("[")
        if kind in ("bool", "<class 'bool'>") and not words:
            found.append("true")
        elif kind.startswith("list[str]") and words and not _is_yaml_list(words):
            del rest[: len(words)]
            if option in places:  # given before: jsonargparse would keep the last one alone
                found.pop()
                place = places[option]
                found[place] = json.dumps(json.loads(found[place]) + words)
            else:
                found.append(json.dumps(words))
                places[option] = len(found) - 1
        elif is_open_list and (kind.startswith("list[") or ("| list[" in kind and len(words) > 1)):
            del rest[: len(words)]
            found.append(f"[{','.join(words)}]")
    return found


def _is_yaml_list(words: Sequence[str]) -> bool:
    """Whether words are one list as YAML writes it, and not strings of which the first begins with a bracket."""
    if len(words) != 1 or not words[0].startswith("["):
        return False
    try:
        return isinstance(yaml.safe_load(words[0]), list)
    except yaml.YAMLError:
        return False


def plain_type(written: str) -> str:
    """A type in the words of the help.

    >>> plain_type("Optional[Literal['a', 'b']]"), plain_type("Union[float, list[float], null]")
    ('a | b | null', 'float | list[float] | null')
    """
    written = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), written)
    written = re.sub(r"^Optional\[(.*)\]$", r"\1 | null", written)
    union = re.fullmatch(r"Union\[(.*)\]", written)
    return written if union is None else re.sub(r", (?![^\[]*\])", " | ", union[1])


def summarize_parse_error(message: str) -> str:
    """The line of a jsonargparse message that says what is wrong.

    For a value that fits none of several types jsonargparse lists all types and their errors, most of them about
    `None`, and the whole value; what helps is the one error about the type that was meant.
    """
    message = re.sub(r'Parser key "([^"]+)":', r"\1:", message)
    head, found, errors = message.partition("Errors:")
    if found:
        errors, _, given = errors.partition("Given value type:")
        parts = [part.strip() for part in re.split(r"(?:^|\n)\s*- ", errors) if part.strip()]
        meant = [part for part in parts if "NoneType" not in part and not part.startswith("Subtypes:")]
        message = f"{head.split(':')[0].strip()}: " + "; ".join(meant or parts)
        value = given.partition("Given value:")[2].strip()
        if value and len(value) < LONGEST_VALUE and "NestedArg" not in value:
            message += f", got {value}"
    message = " ".join(message.split())
    for pattern, plain in REWORDED.items():
        message = re.sub(pattern, plain, message)
    return message


def user_error_in(error: BaseException) -> UserError | None:
    """The `UserError` among an error and its causes; None where there is none."""
    return next((link for link in _causes(error) if isinstance(link, UserError)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    yield error
    for behind in (error.__cause__, error.__context__):
        if behind is not None:
            yield from _causes(behind)


def _options(parser: ArgumentParser) -> set[str]:
    names: set[str] = set()
    for action in parser._actions:
        names |= {option.lstrip("-").rstrip("+") for option in action.option_strings if option.startswith("--")}
        parsers: Iterable[object] = action.choices.values() if isinstance(action.choices, dict) else ()
        for inner in parsers:
            if isinstance(inner, ArgumentParser):
                names |= _options(inner)
    return names
