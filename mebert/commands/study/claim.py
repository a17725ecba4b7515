"""Who is running a cell: a small file, so that several `study` commands, on one machine or many, share the work.

A claim says the process and the host. Its owner touches it now and then; one whose process has died, or that nobody has
touched for a while (another machine, which cannot be asked), is taken over.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["SILENT_AFTER", "TOUCH_EVERY", "Claim"]

TOUCH_EVERY = 30.0
"""Seconds between two signs of life."""
SILENT_AFTER = 900.0
"""Seconds without one after which a claim counts as left behind."""


class Claim:
    """The claim on one cell.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._touched = 0.0

    def take(self) -> bool:
        """Claim the cell; False where somebody else has it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._create():
            return True
        seen = self._read()
        if seen is not None and not self._left_behind(seen):
            return False
        if seen is not None and not self._remove(seen):
            return False
        return self._create()

    def owner(self) -> str:
        """Who has it, for a message."""
        content = _parsed(self._read() or "")
        return f"process {content.get('pid', '?')} on {content.get('host', '?')}"

    def touch(self) -> None:
        """A sign of life; cheap enough to be called often."""
        if time.monotonic() - self._touched > TOUCH_EVERY:
            self._touched = time.monotonic()
            with suppress(FileNotFoundError):  # somebody has cleared up while we run
                os.utime(self.path)

    def release(self) -> None:
        """Give the cell back."""
        self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        content = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        try:
            with self.path.open("x", encoding="utf-8") as file:
                file.write(content)
        except FileExistsError:
            return False
        self._touched = time.monotonic()
        return True

    def _read(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _left_behind(self, content: str) -> bool:
        claim = _parsed(content)
        try:
            silent = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return True
        here = claim.get("host") == socket.gethostname()
        return silent > SILENT_AFTER or (here and not _alive(claim.get("pid")))

    def _remove(self, seen: str) -> bool:
        """Remove exactly the claim that was seen: another process may have taken it over just now."""
        aside = self.path.with_name(f"{self.path.name}.{socket.gethostname()}.{os.getpid()}")
        try:
            self.path.rename(aside)  # of several processes only one can do so
        except FileNotFoundError:
            return True
        try:
            if aside.read_text(encoding="utf-8") == seen:
                return True
            with suppress(FileExistsError):  # a third one has been quicker
                os.link(aside, self.path)  # a fresh one: give it back
            return False
        finally:
            aside.unlink()


def _parsed(content: str) -> dict[str, object]:
    try:
        found = json.loads(content)
    except ValueError:  # being written just now
        return {}
    return found if isinstance(found, dict) else {}


def _alive(pid: object) -> bool:
    """Whether a process of this machine runs; one that cannot be told (a file half written) counts as running."""
    if not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
