"""One process at a time runs the cells of a folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mebert.errors import UserError
from mebert.storage.atomic import write_text


@contextmanager
def exclusive_owner(folder: Path) -> Iterator[None]:
    """Hold the lock `study.lock` of a folder, which is created; a UserError names the process that has it already.

    The operating system releases the lock when the process ends, also by kill -9.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, about = FileLock(folder / "study.lock", timeout=0), folder / "running.json"
    try:
        lock.acquire()
    except Timeout as error:
        try:
            owner = "process {pid} on {host}".format(**json.loads(about.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):  # about to be written
            owner = "another process"
        raise UserError(f"{folder} is being run by {owner}: wait until it has ended, or stop it") from error
    try:
        write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), about)
        yield
    finally:
        about.unlink(missing_ok=True)
        lock.release()
