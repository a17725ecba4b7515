"""Who reads standard error: a person at a terminal, or a file."""

from __future__ import annotations

import os
import sys


def bars_wanted() -> bool:
    """Whether standard error is a terminal that a person looks at: no file, no pipe, no CI, no dumb terminal."""
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return sys.stderr.isatty() and not in_ci and os.environ.get("TERM") != "dumb"
