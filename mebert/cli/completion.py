"""All commands and options as one plain argparse parser, from which shtab writes a shell's completion script."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable
from typing import Any, Literal, NoReturn, get_args, get_origin

import shtab
from jsonargparse import ArgumentParser, auto_parser
from lightning.pytorch.cli import LightningArgumentParser

import mebert
from mebert.cli.commands import COMMANDS, command_function
from mebert.cli.help import DATA, LIGHTNING_COMMANDS, RECIPES, SHORT_OPTIONS
from mebert.cli.lightning import MebertCLI, lightning_command
from mebert.commands.parser import CommandParser
from mebert.errors import UserError

__all__ = ["completion", "completion_script"]


def completion(shell: str = "bash") -> None:
    """Print a completion script for the command `mebert`: its commands, options, and what an option can be.

    The script is complete in itself: a shell that has read it starts no Python. Print it anew after an update.

    Args:
        shell: bash, zsh, tcsh, fish or powershell. May be given without the name: completion zsh.
    """
    from importlib.util import find_spec

    from mebert.errors import UserError

    if find_spec("shtab") is None:
        raise UserError("completion needs the package shtab: pip install 'mebert[completion]', or pip install shtab")

    print(completion_script(shell))


FOLDERS = ("model", "models", "runs", "dirpath", "default_root_dir")

FILES = ("config", "ckpt_path", "texts", "file", "out", "path", "encoder")

HELP_LENGTH = 70


def completion_script(shell: str) -> str:
    """The script for a shell.

    Args:
        shell: One of `shtab.SUPPORTED_SHELLS`.

    Raises:
        UserError: shtab does not know it.
    """
    if shell not in shtab.SUPPORTED_SHELLS:
        raise UserError(f"shell must be one of {', '.join(shtab.SUPPORTED_SHELLS)}, got {shell!r}")
    return str(shtab.complete(_mirror(), shell))


def _mirror() -> argparse.ArgumentParser:
    """The command line of `mebert`, with choices and files where an option has them."""
    parser = argparse.ArgumentParser("mebert")
    parser.add_argument("--version", action="store_true", help="Show the version")
    commands = parser.add_subparsers()
    classes = [*_class_options("model", RECIPES), *_class_options("data", DATA)]
    for name, real in _lightning_parsers().items():
        sub = commands.add_parser(name, help=LIGHTNING_COMMANDS[name])
        _copy(real, sub, classes)
        sub.add_argument("--help_all", action="store_true", help="Show all options")
        real_options = {option: action for action in real._actions for option in action.option_strings}
        for short, option in SHORT_OPTIONS.get(name, {}).items():
            _add(sub, [short], real_options[option])
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text)
        function = command_function(name)
        _copy(auto_parser(function, as_positional=False, parser_class=CommandParser), sub, [])
        first = next(iter(inspect.signature(function).parameters), "")
        if name == "completion":
            sub.add_argument(first, nargs="?", choices=shtab.SUPPORTED_SHELLS)
        elif first in FOLDERS:
            sub.add_argument(first, nargs="*").complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


class _Found(Exception):
    """Leaves LightningCLI when its parsers are made."""


class _ParsersAlone(MebertCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> NoReturn:
        commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        raise _Found(dict(commands.choices))


def _lightning_parsers() -> dict[str, argparse.ArgumentParser]:
    try:
        lightning_command([], _ParsersAlone)
    except _Found as found:
        parsers: dict[str, argparse.ArgumentParser] = found.args[0]
        return parsers
    raise AssertionError("LightningCLI parses arguments")


def _class_options(group: str, names: str) -> list[tuple[str, argparse.Action]]:
    """`--model.dropout`, ...: the arguments of all classes that may stand there."""
    found: dict[str, argparse.Action] = {}
    for name in names.split(", "):
        parser = ArgumentParser()
        parser.add_class_arguments(getattr(mebert, name), group, fail_untyped=False)
        for action in parser._actions:
            for option in action.option_strings:
                if option.startswith(f"--{group}.") and not option.endswith("+"):
                    found.setdefault(option, action)
    return sorted(found.items())


def _copy(
    real: argparse.ArgumentParser, sub: argparse.ArgumentParser, more: Iterable[tuple[str, argparse.Action]]
) -> None:
    for action in real._actions:
        options = [o for o in action.option_strings if not o.endswith("+") and o not in ("-h", "--help")]
        if options:
            _add(sub, options, action)
    for option, action in more:
        if option not in sub._option_string_actions:
            _add(sub, [option], action)


def _add(sub: argparse.ArgumentParser, options: list[str], real: argparse.Action) -> None:
    """One option, with what it can be."""
    name = options[-1].lstrip("-")
    hint = getattr(real, "_typehint", None)
    choices = _choices(hint)
    if name in ("model", "data") and hint is not None and not _holds(hint, str):
        choices = (RECIPES if name == "model" else DATA).split(", ")
    several = _holds(hint, list) or _holds(hint, tuple)
    text = "" if real.help in (None, argparse.SUPPRESS) else " ".join(str(real.help).split())
    short = text.partition(". ")[0][:HELP_LENGTH].replace("%", "%%")
    added = sub.add_argument(*options, nargs="*" if several else None, choices=choices or None, help=short)
    last = name.rpartition(".")[2]
    if not choices:
        if last in FILES or last.endswith("_file") or name in ("trainer", "model", "data"):
            added.complete = shtab.FILE  # type: ignore[attr-defined]
        elif last in FOLDERS:
            added.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _choices(hint: Any) -> list[str]:
    """The words that a type allows; none where it is open."""
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    inner = [found for part in get_args(hint) if (found := _choices(part))]
    return list(dict.fromkeys(word for words in inner for word in words))


def _holds(hint: Any, kind: type) -> bool:
    """Whether a type is this one, or a union that holds it."""
    return hint is kind or get_origin(hint) is kind or any(_holds(part, kind) for part in get_args(hint))
