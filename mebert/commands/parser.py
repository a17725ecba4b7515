"""The parser of all commands: how arguments may be typed, the layout of the help, and an error as one line."""

from __future__ import annotations

import inspect
import json
import re
from argparse import Action
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace
from jsonargparse._paths import PathError

from mebert import MODULE_OF
from mebert.errors import UserError, error_chain
from mebert.storage.trusted_classes import strict_parsing

# jsonargparse's errors have a text and nothing else; what stands for it, in the words of a reader of YAML.
REWORDED = {
    r"Expected a dot import path string: ([^\s,]+)": r"no class \1 (give its import path, or a name of mebert)",
    r"Expected a <class 'int'>": "expected a whole number",
    r"Expected a <class 'float'>": "expected a number",
    r"Expected a <class 'bool'>": "expected true or false",
    r"Expected a <class 'str'>": "expected a string (quote what YAML reads as a number, true or null: '[\"1\"]')",
    r"Expected a typing\.Literal\[([^\]]*)\]": r"expected one of \1",
    r"; [Ee]xpected a <class 'list'>": " or a list of them",
    r"the following arguments are required: fit\.data, .*": (
        "fit needs rows or a configuration: python -m mebert fit reviews.csv (or --config FILE); fit --help has more"
    ),
    r"the following arguments are required: (validate|test|predict)\.data, .*": (
        r"\1 has neither data nor a model: give a run (python -m mebert \1 RUN), or --config FILE"
    ),
    r"Expected a <class 'list'>": 'expected a list, such as \'["a", "b"]\'',
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
    r"(?:unrecognized arguments: (?P<dashes>--)|does not accept option '|Option ')(?P<name>[\w.-]+)"
)
UNKNOWN_CLASS = re.compile(r"no class ([\w.]+)")


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
        if "--print_config" in action.option_strings:
            return "Print the configuration that all arguments make, and exit."
        if getattr(action, "plain_help", False):  # the text says what may be given: no list of all types
            return f"{action.help} (default: %(default)s)"
        return super()._get_help_string(action)

    def _get_type_str(self, action: Action) -> str | None:
        """`a | b | null` for `Optional[Literal['a', 'b']]`."""
        text = super()._get_type_str(action)
        if text is None:
            return None
        text = re.sub(r"Literal\[([^\]]*)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), text)
        text = re.sub(r"^Optional\[(.*)\]$", r"\1 | null", text)
        union = re.fullmatch(r"Union\[(.*)\]", text)
        return text if union is None else re.sub(r", (?![^\[]*\])", " | ", union[1])

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
    """A parser that reports an error as a `UserError` of one line and has a short help.

    Attributes:
        also: Options that the command takes and this parser does not see.
    """

    also: Sequence[str] = ()

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
        causes = error_chain(ex)
        in_file = next((str(link) for link in causes if isinstance(link, ConfigFileError)), None)
        text = in_file or summarize_parse_error(message)
        if any(isinstance(link, PathError) for link in causes):
            text += f"; check the path (it is relative to {Path.cwd()})"
        near, dashes = list[str](), ""
        if named := UNKNOWN_CLASS.search(text):
            near = get_close_matches(named[1].rpartition(".")[2], MODULE_OF, n=1, cutoff=0.8)
        elif found := UNKNOWN_OPTION.search(text):
            near, dashes = _meant(found["name"], self), found["dashes"] or ""
        if near and "did you mean" not in text:
            text += f"; did you mean {dashes}{near[0]}?"
        raise UserError(text) from ex


def normalize_args(function: Callable[..., Any], args: Sequence[str]) -> list[str]:
    """The arguments of a command as jsonargparse wants them: `--list` as `--list true`, `--only a b` as one list.

    The annotations of the command's function say which options are switches and which lists. A list of strings that is
    given twice is one list. Words before the first option belong to the first parameter if that is a list; if it is a
    string, the first of them does, and one behind it is the second parameter if that is `file` or `repo`.
    """
    kinds = {f"--{p.name}": str(p.annotation) for p in inspect.signature(function).parameters.values()}
    found: list[str] = []
    rest, places = list(args), dict[str, int]()
    first, second = [*kinds, "", ""][:2]
    if rest and not rest[0].startswith("-") and kinds[first].startswith(("list[", "str")):
        rest.insert(0, first)  # words before any option: `compare RUN RUN`, `inspect RUN --text ...`
        if second in ("--file", "--repo") and len(rest) > 2 and (rest[2] == "-" or not rest[2].startswith("-")):
            rest.insert(2, second)  # `predict RUN FILE`, `push RUN user/name`
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
                found[place] = _as_list([*yaml.safe_load(found[place]), *words])
            else:
                found.append(_as_list(words))
                places[option] = len(found) - 1
        elif is_open_list and (kind.startswith("list[") or ("| list[" in kind and len(words) > 1)):
            del rest[: len(words)]
            found.append(f"[{','.join(words)}]")
    return found


def _as_list(words: Sequence[str]) -> str:
    """Words as one list of YAML, which reads JSON, but no surrogate pairs (emoji)."""
    return json.dumps(words, ensure_ascii=False)


def _is_yaml_list(words: Sequence[str]) -> bool:
    """Whether words are one list as YAML writes it, and not strings of which the first begins with a bracket."""
    with suppress(yaml.YAMLError):
        return len(words) == 1 and words[0].startswith("[") and isinstance(yaml.safe_load(words[0]), list)
    return False


def summarize_parse_error(message: str) -> str:
    """The line of a jsonargparse message that says what is wrong.

    For a value that fits none of several types jsonargparse lists the errors of all; the one about None does not help.
    """
    message = re.sub(r'Parser key "([^"]+)":', r"\1:", message)
    head, found, errors = message.partition("Errors:")
    if found:
        errors, _, given = errors.partition("Given value type:")
        parts = [part.strip() for part in re.split(r"(?:^|\n)\s*- ", errors) if part.strip()]
        meant = [part for part in parts if "NoneType" not in part and not part.startswith("Subtypes:")]
        message = f"{head.split(':')[0].strip()}: " + "; ".join(meant or parts)
        value = given.partition("Given value:")[2].strip()
        if value and len(value) < 60 and "NestedArg" not in value and "Got value:" not in message:
            message += f", got {value}"
    message = " ".join(message.split())
    for pattern, plain in REWORDED.items():
        message = re.sub(pattern, plain, message)
    return message


def _meant(name: str, parser: UserErrorParser) -> list[str]:
    """The option that a mistyped one may mean, if any: written with hyphens, with other letters, or cut short."""
    known = dict(_options(parser)) | dict.fromkeys(parser.also, True)
    name = name.replace("-", "_")
    if name in known:
        return [name]
    if near := get_close_matches(name, known, n=1, cutoff=0.7):
        return near
    for often in (True, False):
        last = {option.rpartition(".")[2]: option for option, shown in reversed(known.items()) if shown is often}
        if near := get_close_matches(name.rpartition(".")[2], last, n=1, cutoff=0.7):
            return [last[near[0]]]
    return []


def _options(parser: ArgumentParser) -> Iterator[tuple[str, bool]]:
    """The options that the command reads, and whether the help shows them."""
    for action in parser._actions:
        if getattr(action, "not_read", False):
            continue
        names = [name.lstrip("-").rstrip("+") for name in action.option_strings if name.startswith("--")]
        yield from ((name, not getattr(action, "hidden", False)) for name in names)
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                yield from _options(inner)
