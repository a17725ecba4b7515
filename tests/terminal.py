"""Processes that sit at a terminal where nobody types."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def at_a_terminal(command: list[str], cwd: Path, env: dict[str, str], timeout: float) -> tuple[int, str]:
    """The exit status of a process and all that it printed; its input, output and errors are one terminal."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = b""
    try:
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
            if not chunk:
                break
            printed += chunk
        return process.wait(timeout=timeout), printed.decode(errors="replace")
    finally:
        process.kill()
        os.close(ours)
