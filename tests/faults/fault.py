"""One fault: what a user did, how it is provoked, and what the message must name."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from runs import QUIET, experiment
from safetensors.torch import load_file, save_file

from mebert.cli.main import main
from mebert.data.synthetic import synthetic_tokenizer
from mebert.errors import UserError
from mebert.storage.atomic import atomic_write
from mebert.storage.checkpoints import read_checkpoint

RUN = "runs/tiny/version_0"
ENCODER: dict[str, Any] = experiment()["model"]["init_args"]["encoder_config"]
PREFIX = "mebert: error: "
Content = str | bytes | Callable[[Path], object]


@dataclass(frozen=True)
class Fault:
    """A mistake, and what is said of it.

    Attributes:
        what: What the user gave, in words; the page's first column.
        do: Arguments of `python -m mebert`, or a call in Python.
        says: What the message must contain, or several such: the place, the value, what to do.
        files: Name to content of what lies in the working directory; a callable is given the path.
        ran: Whether something runs before the mistake shows, so that a run's folder is left.
    """

    what: str
    do: str | Callable[[], object]
    says: str | tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    ran: bool = False


class Provoked(NamedTuple):
    """What a fault led to: its message without the prefix, all of standard error, the exit status, new paths.

    A call in Python has nothing on standard error, and the status 2 where it raises a UserError.
    """

    message: str
    errors: str
    status: int
    left: tuple[str, ...]


def provoke(fault: Fault, trained: Path, folder: Path) -> Provoked:
    """Make the mistake in a new folder, beside a copy of `tiny.yaml` and its run, `own.yaml`, `rows.csv` and so on."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    files = {f"{name}_file": "rows.csv" for name in ("train", "validation", "test")}
    init = {**files, "tokenizer": "tokenizer", "max_length": 32, "batch_size": 4}
    own = {**experiment(), "data": {"class_path": "mebert.TextDataModule", "init_args": init}}
    own["trainer"]["max_epochs"] = 1
    (folder / "own.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    (folder / "rows.csv").write_text("text,label\n" + "a cat,good\na dog,bad\n" * 6, encoding="utf-8")
    synthetic_tokenizer().save_pretrained(folder / "tokenizer")
    with contextlib.chdir(folder):
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
    if args[0] in ("fit", "validate", "test", "predict"):
        args += QUIET
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
        status = main(args)
    lines = [text for text in printed.getvalue().splitlines() if text.startswith(PREFIX)]
    return "\n".join(text.removeprefix(PREFIX) for text in lines), printed.getvalue(), status


def _call(do: Callable[[], object]) -> tuple[str, str, int]:
    try:
        do()
    except UserError as error:
        return str(error), "", 2
    return "", "", 0


# ---- damage: callables that are given the path -----------------------------------------------------------------------


def half(path: Path) -> None:
    """Keep the first half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_json(**values: Any) -> Callable[[Path], object]:
    """Change values of a JSON file; None takes one out."""

    def change(path: Path) -> None:
        content = json.loads(path.read_text()) | values
        path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))

    return change


def change_tensors(**values: Any) -> Callable[[Path], object]:
    """Change tensors of a safetensors file; None takes one out."""

    def change(path: Path) -> None:
        tensors = load_file(path) | {name.replace("__", "."): value for name, value in values.items()}
        save_file({name: value for name, value in tensors.items() if value is not None}, path)

    return change


def change_checkpoint(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the content of a checkpoint."""

    def rewrite(path: Path) -> None:
        content = read_checkpoint(path)  # with the weights that it refers to
        change(content)
        atomic_write(content, path)

    return rewrite
