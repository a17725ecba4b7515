"""Writes docs/errors.md: `python -m tests.faults.write`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.catalogue import every_fault
from faults.fault import provoke
from faults.page import PAGE, rendered, shortened
from faults.world import make_templates


def main() -> None:
    """Make every mistake and note what is said of it."""
    messages = {}
    with tempfile.TemporaryDirectory() as place:
        (templates := Path(place) / "templates").mkdir()
        made = make_templates(templates)
        for number, (group, fault) in enumerate(every_fault()):
            folder = Path(place) / str(number)
            provoked = provoke(fault, folder, made)
            if provoked.status != 2:
                raise SystemExit(f"{fault.what}: status {provoked.status}, and {provoked.message!r} was said")
            messages[group, fault.what] = shortened(provoked.message, folder)
    PAGE.write_text(rendered(messages), encoding="utf-8")
    print(f"Saved: {PAGE} ({len(messages)} faults)")


if __name__ == "__main__":
    main()
