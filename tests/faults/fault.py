"""One fault: what a user did, how it is provoked, and what the message must name."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faults.world import Templates
from runs import QUIET

from mebert.cli.main import main
from mebert.errors import UserError

__all__ = ["Fault", "Provoked", "provoke"]

LIGHTNING = ("fit", "validate", "test", "predict")
PREFIX = "mebert: error: "


@dataclass(frozen=True)
class Fault:
    """A mistake, and what is said of it.

    Attributes:
        what: What the user gave, in words; the page's first column.
        do: Arguments of `python -m mebert`, or a call in Python.
        says: What the message must contain: the place, the value, what to do.
        files: Name to content of what lies in the working directory; a callable is given the path.
        run: Whether a trained run lies in `runs/tiny/version_0`.
        ran: Whether something runs before the mistake shows, so that a run's folder is left.
    """

    what: str
    do: str | Callable[[], object]
    says: tuple[str, ...]
    files: Mapping[str, str | bytes | Callable[[Path], object]] = field(default_factory=dict)
    run: bool = False
    ran: bool = False


@dataclass(frozen=True)
class Provoked:
    """What came of it.

    Attributes:
        message: The text of the error, without `mebert: error: `.
        errors: All of standard error; empty for a call in Python.
        status: The exit status; for a call in Python 2 stands for a UserError.
        left: Paths that were not there before.
    """

    message: str
    errors: str
    status: int
    left: tuple[str, ...]


def provoke(fault: Fault, folder: Path, templates: Templates) -> Provoked:
    """Make the mistake in an empty folder.

    Args:
        fault: The fault.
        folder: The folder, which becomes the working directory for the time.
        templates: Where what faults have in common is copied from.
    """
    shutil.copytree(templates.common, folder, dirs_exist_ok=True)
    if fault.run:
        shutil.copytree(templates.run, folder / "runs/tiny/version_0")
    with _inside(folder):
        for name, content in fault.files.items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(path)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        before = set(Path().rglob("*"))
        message, errors, status = _call(fault.do) if callable(fault.do) else _command(fault.do)
        left = tuple(sorted(str(path) for path in set(Path().rglob("*")) - before))
    return Provoked(message, errors, status, left)


def _command(line: str) -> tuple[str, str, int]:
    args = shlex.split(line)
    if args[0] in LIGHTNING:
        args += QUIET
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main(args)
    lines = [text for text in said.getvalue().splitlines() if text.startswith(PREFIX)]
    return "\n".join(text.removeprefix(PREFIX) for text in lines), said.getvalue(), status


def _call(do: Callable[[], object]) -> tuple[str, str, int]:
    try:
        result = do()
        if isinstance(result, Iterator):
            list(result)
    except UserError as error:
        return str(error), "", 2
    return "", "", 0


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
