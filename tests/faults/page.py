"""docs/errors.md: what is said of each fault, as the tests provoke it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from faults.catalogue import GROUPS

__all__ = ["PAGE", "messages_of", "rendered", "shortened"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"

HEAD = """\
# Mistakes and what is said of them

A mistake in what was given is one line on standard error, `mebert: error: ...`, and exit status 2; in Python it is a
`mebert.UserError` with the same text. Where nothing has run, no folder is left. What to do about the machine (memory,
speed, the network) is in [troubleshooting.md](troubleshooting.md).

This page is written from the catalogue in `tests/faults` by `python -m tests.faults.write`, which makes each of the
{count} mistakes and notes what is said; a test makes them all again. Paths are shortened.
"""


def shortened(message: str, folder: Path) -> str:
    """A message without what differs from machine to machine.

    Args:
        message: As it was said.
        folder: The working directory.
    """
    for path in {str(folder), str(folder.resolve())}:
        message = message.replace(f"{path}/", "").replace(path, "<this folder>")
    message = re.sub(r"\d[\d,]* bytes that", "... bytes that", message)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", message)


def rendered(messages: Mapping[tuple[str, str], str]) -> str:
    """The page.

    Args:
        messages: (group, what was given) to the message.
    """
    parts = [HEAD.format(count=sum(map(len, GROUPS.values())))]
    for group, faults in GROUPS.items():
        rows = [f"| {fault.what} | {_code(messages[group, fault.what])} |" for fault in faults]
        parts.append("\n".join([f"## {group}\n", "| what was given | what is said |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def messages_of(page: str) -> dict[tuple[str, str], str]:
    """What a page says of each fault.

    Args:
        page: Its text, as `rendered` wrote it.
    """
    found = {}
    group = ""
    for line in page.splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ")
        elif line.startswith("| ") and group and not line.startswith("| what was given"):
            what, _, said = line.strip("| ").partition(" | ")
            found[group, what] = said.strip("` ").replace("\\|", "|")
    return found


def _code(text: str) -> str:
    ticks = "``" if "`" in text else "`"
    pad = " " if ticks == "``" else ""
    return f"{ticks}{pad}{text.replace('|', chr(92) + '|')}{pad}{ticks}"
