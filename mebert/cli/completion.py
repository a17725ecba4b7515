"""Shell completion: all commands and options as one plain argparse parser, from which shtab writes a script.

jsonargparse's own script for Lightning's four commands is too large for a shell to read at every start.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ArgumentParser, auto_parser, capture_parser

import mebert
from mebert.cli.commands import COMMANDS, command_function
from mebert.cli.help import DATA_MODULES, LIGHTNING_COMMANDS, RECIPES
from mebert.commands.parser import UserErrorParser
from mebert.errors import UserError

CLASSES = {"model": RECIPES, "data": DATA_MODULES}
FOLDERS = ("model", "models", "runs", "dirpath", "default_root_dir")
FILES = ("config", "ckpt_path", "texts", "file", "out", "path", "encoder")
HELP_LENGTH = 70


def completion(shell: str = "bash") -> None:
    """Print a completion script for the command `mebert`: its commands, options, and what an option can be.

    The script is complete in itself: a shell that has read it starts no Python. Print it anew after an update.

    Args:
        shell: bash, zsh, tcsh, fish or powershell. May be given without the name: completion zsh.
    """
    if find_spec("shtab") is None:
        raise UserError("completion needs the package shtab: pip install 'mebert[completion]', or pip install shtab")
    import shtab

    if shell not in shtab.SUPPORTED_SHELLS:
        raise UserError(f"shell must be one of {', '.join(shtab.SUPPORTED_SHELLS)}, got {shell!r}")
    print(shtab.complete(_plain_parser(), shell))


def _plain_parser() -> argparse.ArgumentParser:
    """The command line of `mebert`, with choices and files where an option has them."""
    import shtab

    from mebert.cli.fit_file import RECIPES as RECIPE_NAMES
    from mebert.cli.fit_file import SHORT
    from mebert.cli.lightning_command import lightning_command

    parser = argparse.ArgumentParser("mebert")
    parser.add_argument("--version", action="store_true", help="Show the version")
    commands = parser.add_subparsers()
    of_classes = [action for group, names in CLASSES.items() for action in _class_options(group, names)]
    lightning = capture_parser(lightning_command, [])._subcommands_action.choices
    for name, text in LIGHTNING_COMMANDS.items():
        sub = commands.add_parser(name, help=text)
        _copy([*lightning[name]._actions, *of_classes], sub)
        sub.add_argument("--help_all", action="store_true", help="Show all options")
        if name == "fit":
            sub.add_argument("file", nargs="?").complete = shtab.FILE  # type: ignore[attr-defined]
            sub.add_argument("--recipe", choices=list(RECIPE_NAMES), help="The recipe for a file of labelled texts")
            for option in SHORT[1:]:
                sub.add_argument(option, help="For a file of labelled texts")
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text)
        function = command_function(name)
        own = auto_parser(function, as_positional=False, return_instance=True, parser_class=UserErrorParser)
        _copy(own._actions, sub)
        first = next(iter(inspect.signature(function).parameters))
        if name == "completion":
            sub.add_argument(first, nargs="?", choices=shtab.SUPPORTED_SHELLS)
        elif first in FOLDERS:
            sub.add_argument(first, nargs="*").complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def _class_options(group: str, names: Iterable[str]) -> list[argparse.Action]:
    """`--model.dropout`, ...: the arguments of all classes that may be given."""
    found: list[argparse.Action] = []
    for name in names:
        parser = ArgumentParser()
        parser.add_class_arguments(getattr(mebert, name), group, fail_untyped=False)
        found += [action for action in parser._actions if action.dest.startswith(f"{group}.")]
    return sorted(found, key=lambda action: action.dest)


def _copy(actions: Iterable[argparse.Action], sub: argparse.ArgumentParser) -> None:
    """Add options to a parser, but for those that it has."""
    for action in actions:
        known = {"-h", "--help", *sub._option_string_actions}
        options = [name for name in action.option_strings if not name.endswith("+") and name not in known]
        if options:
            _add(sub, options, action)


def _add(sub: argparse.ArgumentParser, options: list[str], real: argparse.Action) -> None:
    """One option, with what it can be."""
    import shtab

    hint = getattr(real, "_typehint", None)
    choices = _choices(hint)
    if real.dest in CLASSES and hint is not None and not _contains(hint, str):
        choices = list(CLASSES[real.dest])
    several = _contains(hint, list) or _contains(hint, tuple)
    text = "" if real.help in (None, argparse.SUPPRESS) else " ".join(str(real.help).split())
    short = text.partition(". ")[0][:HELP_LENGTH].replace("%", "%%")
    added = sub.add_argument(*options, nargs="*" if several else None, choices=choices or None, help=short)
    last = real.dest.rpartition(".")[2]
    if not choices:
        if last in FILES or last.endswith("_file") or real.dest in ("trainer", *CLASSES):
            added.complete = shtab.FILE  # type: ignore[attr-defined]
        elif last in FOLDERS:
            added.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _choices(hint: Any) -> list[str]:
    """The words that a type allows; empty where it is open."""
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return list(dict.fromkeys(word for part in get_args(hint) for word in _choices(part)))


def _contains(hint: Any, kind: type) -> bool:
    """Whether a type is this one, or a union or a container of it."""
    return hint is kind or get_origin(hint) is kind or any(_contains(part, kind) for part in get_args(hint))
