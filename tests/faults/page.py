"""docs/errors.md: the message of each fault, as the tests provoke it. `python -m tests.faults.write` writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from faults import arguments, checkpoints, configs, data_files, hub, models
from faults.fault import Fault

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"

GROUPS: Mapping[str, Sequence[Fault]] = {
    "Own files": data_files.FAULTS,
    "Settings and configurations": configs.FAULTS,
    "Encoders and saved models": models.FAULTS,
    "The Hub": hub.FAULTS,
    "Checkpoints and runs": checkpoints.FAULTS,
    "Arguments of commands and of EarlyExitClassifier": arguments.FAULTS,
}

HEAD = """\
# Error messages

A mistake in what was given is one line on standard error, `mebert: error: ...`, and exit status 2; in Python it is a
`mebert.UserError` with the same text. Where nothing has run, no folder is left. What to do about the machine (memory,
speed, the network) is in [troubleshooting.md](troubleshooting.md).

This page is written from the catalogue in `tests/faults` by `python -m tests.faults.write`, which makes each of the
{count} mistakes and notes the message; a test makes them all again. Paths are shortened.
"""
COLUMNS = "| what was given | message |"


def shortened(message: str, folder: Path) -> str:
    """A message of a run in this folder, without what differs from machine to machine."""
    for path in {str(folder), str(folder.resolve())}:
        message = message.replace(f"{path}/", "").replace(path, "<this folder>")
    message = re.sub(r"\d[\d,]* bytes that", "... bytes that", message)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", message)


def rendered(messages: Mapping[tuple[str, str], str]) -> str:
    """The page with these messages, by group and by what was given."""
    parts = [HEAD.format(count=sum(map(len, GROUPS.values())))]
    for group, faults in GROUPS.items():
        rows = [f"| {fault.what} | {_code(messages[group, fault.what])} |" for fault in faults]
        parts.append("\n".join([f"## {group}\n", COLUMNS, "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def messages_of(page: str) -> dict[tuple[str, str], str]:
    """The message of each fault, from the text of a page that `rendered` wrote."""
    found = {}
    for section in page.split("\n## ")[1:]:
        group, _, table = section.partition("\n")
        for line in table.splitlines():
            if line.startswith("| ") and line != COLUMNS:
                what, _, message = line.strip("| ").partition(" | ")
                found[group, what] = (message[3:-3] if message.startswith("`` ") else message[1:-1]).replace("\\|", "|")
    return found


def _code(text: str) -> str:
    ticks = "``" if "`" in text else "`"
    pad = " " if ticks == "``" else ""
    return f"{ticks}{pad}{text.replace('|', chr(92) + '|')}{pad}{ticks}"
