"""A process ends with the one that started it, however that ended (also by kill -9).

A run of a study has one end of a pipe as its standard input, which ends when the study does; processes that the run
starts itself (DDP) inherit it. Those watch their parent, too, which may die alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from mebert.errors import UserError

WATCH_STDIN = "MEBERT_WATCH_STDIN"  # set in the environment of a process that ends when its standard input does
RUN_LOCK = "MEBERT_RUN_LOCK"  # a file that such a process locks for as long as it lives
GRACE_SECONDS = 30.0  # for the last checkpoint, between SIGTERM and SIGKILL
POLL_SECONDS = 1.0

_held: list[FileLock] = []


def end_with_parent() -> None:
    """Stop this process with its parent, where a study or a launcher of DDP's processes has started it."""
    if path := os.environ.pop(RUN_LOCK, None):  # not for processes that this one starts
        _held.append(FileLock(path))
        _held[0].acquire()
    if os.environ.get(WATCH_STDIN):
        _stop_after(_end_of_input)
    if "LOCAL_RANK" in os.environ:
        parent = os.getppid()
        _stop_after(lambda: _death_of(parent))


def wait_for_earlier_run(lock: Path) -> None:
    """Wait until the process that has a file as its `RUN_LOCK` has ended: one whose study was killed goes on a while.

    Raises:
        UserError: It has not ended by itself.
    """
    try:
        with FileLock(lock, timeout=GRACE_SECONDS + 10):
            pass
    except Timeout:
        raise UserError(
            f"{lock.parent}: the run that an earlier study started here has not ended in {GRACE_SECONDS + 10:.0f} s; "
            "stop it, and run the study again"
        ) from None


def _stop_after(wait: Callable[[], None]) -> None:
    def stop() -> None:
        wait()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=stop, daemon=True).start()


def _end_of_input() -> None:
    while os.read(0, 1):
        pass


def _death_of(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
