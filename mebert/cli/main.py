"""The entry point; PyTorch and Lightning are imported by the command that runs, so that `--help` answers at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import mebert
from mebert.cli.commands import COMMANDS, RUN_FIRST, run_command
from mebert.cli.help import LIGHTNING_COMMANDS, overview
from mebert.cli.short_form import in_full, is_short, needs_no_trainer
from mebert.errors import UserError
from mebert.runtime.log_filters import silence_known_noise
from mebert.storage.paths import describe_os_error

if TYPE_CHECKING:
    from lightning.pytorch.cli import ArgsType


def main(args: ArgsType = None) -> int:
    """Run one command; without `args`, that of the process.

    Returns:
        The exit status: 0, 2 for a mistake in what the user gave (one line on standard error), 130 after Ctrl-C, or
        141 where what reads its output has ended.
    """
    silence_known_noise()
    _prepare_streams()
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m mebert` does: classes of the user's own, by class_path
    given: Any = sys.argv[1:] if args is None else args
    try:
        return _flushed(given)
    except BrokenPipeError:  # such as `| head`, which has read enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - Python flushes the old one at its end
        os.dup2(sys.stdout.fileno(), 1)
        return 128 + signal.SIGPIPE  # as other Unix tools
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt:
        print("mebert: stopped", file=sys.stderr)
        return 130
    except OSError as error:
        described = describe_os_error(error)
        if described is None:
            raise
        message = str(UserError(described))
    print(f"mebert: error: {message}", file=sys.stderr)
    return 2


def _flushed(given: Any) -> int:
    """Run a command until all of its output is written."""
    try:
        status = _run(given) if isinstance(given, list) else _run_lightning(given)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich makes a status of 1 of it
            raise error.__context__ from None
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _prepare_streams() -> None:
    """Let nothing that is printed raise: where a stream has no such character, or is closed; nor a width of 0."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before the start: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not os.environ.get("COLUMNS", "1").strip("0"):  # as some terminals of continuous integration have it
        del os.environ["COLUMNS"]


def _run(given: Sequence[str]) -> int:
    if not given:
        print(overview(), file=sys.stderr)
        return 2
    command = given[0]
    # Lightning allows options before its command, as in `--config x.yaml fit`.
    if command.startswith("-") and not any(word in LIGHTNING_COMMANDS for word in given):
        if any(option in ("-h", "--help") for option in given):
            print(overview())
            raise SystemExit(0)
        if command == "--version":
            print(f"mebert {mebert.__version__}")
            raise SystemExit(0)
        raise UserError(f"no command before {command}; such as: python -m mebert fit {command} (--help lists them)")
    if len(given) == 1 and command in LIGHTNING_COMMANDS:
        first = "rows or a configuration: python -m mebert fit reviews.csv (or --config FILE)"
        first = first if command == "fit" else f"a run first: {RUN_FIRST[command]}"
        raise UserError(f"{command} needs {first}; {command} --help has more")
    if command in COMMANDS:
        return run_command(command, given[1:])
    if is_short(given):
        if needs_no_trainer(given):
            return run_command(command, given[1:])
        given = in_full(given)
    if command.startswith("-") or command in LIGHTNING_COMMANDS:
        return _run_lightning(given)
    near = get_close_matches(command, [*LIGHTNING_COMMANDS, *COMMANDS], n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"there is no command {command!r}{meant} (python -m mebert --help lists them)")


def _run_lightning(given: Any) -> int:
    from mebert.cli.lightning_command import lightning_command

    lightning_command(given)
    return 0


class _CallableModule(ModuleType):
    """`from mebert.cli import main` of mebert 0.1.0 names this module, whose place a function had."""

    def __call__(self, args: ArgsType = None) -> int:
        return main(args)


sys.modules[__name__].__class__ = _CallableModule
