"""Files that are on the disk whole or not at all, and how damage is found in checkpoints that are there."""

from __future__ import annotations

import csv
import os
import re
import shutil
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from mebert.errors import error_chain

UNFINISHED = re.compile(r"^\..+\.(?P<host>[^.]+)\.(?P<process>\d+)(?:-[0-9a-f]+)?\.unfinished$")
ABANDONED = 3600.0  # seconds without a write after which an unfinished file of another machine is removed
BLOCK = 2**20
# What zipfile raises where headers are damaged, beside its own.
TORN = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError, struct.error, zlib.error)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a new file, which takes the place of `path` once it is complete and on the disk.

    If anything fails, it is removed, and what was at `path` stays. Every writer has a temporary name of its own, and
    every file the mode that the process gives new ones (safetensors makes files that their owner alone can read).
    Who has the old file open, or mapped, keeps it. A device or a pipe (`/dev/stdout`) is itself written to.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(path)
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        unfinished.unlink()
        yield unfinished
        with unfinished.open("r+b") as file:
            os.fsync(file.fileno())
        unfinished.chmod(mode)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every system lets a folder be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too
        finally:
            os.close(folder)


@contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder for files that take their places in `folder`, each whole, once all are complete.

    For libraries that write several files into a folder. Other files of `folder` stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(folder)
    unfinished.mkdir()
    try:
        yield unfinished
        for file in sorted(p for p in unfinished.rglob("*") if p.is_file() and p.suffix != ".lock"):
            with atomic_path(folder / file.relative_to(unfinished)) as place:
                os.replace(file, place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_text(text: str, path: Path) -> None:
    """Write a text file in UTF-8, whole or not at all; lines end as they do in `text`."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")


def write_rows(rows: Iterable[Iterable[Any]], path: Path) -> None:
    """Write a CSV file, whole or not at all."""
    with atomic_path(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def atomic_write(content: Any, path: Path) -> None:
    """Write what `torch.save` takes, whole or not at all; an OSError has this path as its name."""
    import torch

    try:
        with atomic_path(path) as unfinished, unfinished.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # PyTorch's writer hides the system's error behind its own
        for cause in error_chain(error):
            if isinstance(cause, OSError) and cause.errno is not None:
                raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, so that the target is whole or as it was."""
    with atomic_path(target) as unfinished:
        shutil.copyfile(source, unfinished)


def previous_of(path: Path) -> Path:
    """Where the checkpoint before this one is kept: `last-previous.ckpt` beside `last.ckpt`."""
    return path.with_name(f"{path.stem}-previous{path.suffix}")


@contextmanager
def keeping_previous(path: Path, replaced: bool) -> Iterator[None]:
    """Keep the old version of a checkpoint that is written inside; until that is done, the version kept before stays.

    Where a new file takes the place of the old one whole (`replaced`), a second name for the old one is enough, and
    where writing fails, it still has its first. Else it is copied.
    """
    if not path.is_file():
        yield
        return
    kept = _unfinished(previous_of(path))
    try:
        with suppress(OSError):  # a file system without hard links
            if replaced:
                os.link(path, kept)
        if not kept.exists():
            copy_whole(path, kept)
        yield
    except BaseException:
        if replaced or not kept.is_file() or find_corruption(kept) is not None:
            kept.unlink(missing_ok=True)
        else:
            os.replace(kept, previous_of(path))  # the file itself may be incomplete
        raise
    os.replace(kept, previous_of(path))


def find_corruption(path: Path) -> str | None:
    """What is wrong with a file of `torch.save`, by its checksums (which PyTorch does not read); None: nothing seen."""
    if not path.stat().st_size:
        return "an empty file"
    with path.open("rb") as file:
        if file.read(2) != b"PK" and not zipfile.is_zipfile(path):
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            # Others are none that PyTorch writes, and could be small files of endless contents.
            stored = [info for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED]
            for info in stored:
                try:
                    with archive.open(info) as part:
                        while part.read(BLOCK):
                            pass
                except TORN:
                    return f"damaged, {info.filename} is not as it was written"
            return None
    except TORN:
        return f"{path.stat().st_size:,} bytes that were cut off"


def clear_unfinished(folder: Path) -> None:
    """Remove what a killed process left half written in a folder, files and folders."""
    for path in folder.glob(".*.unfinished"):
        found = UNFINISHED.match(path.name)
        if found is None:
            continue
        with suppress(OSError):  # another process was quicker
            here = found["host"] == _host()
            if not _is_alive(int(found["process"])) if here else time.time() - path.stat().st_mtime > ABANDONED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}-{uuid4().hex[:8]}.unfinished")


def _host() -> str:
    return socket.gethostname().replace(".", "-") or "here"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # else the process of another user
    return True
