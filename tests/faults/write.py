"""Writes docs/errors.md: `python -m tests.faults.write`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.fault import provoke
from faults.page import GROUPS, PAGE, rendered, shortened
from runs import train_tiny


def main() -> None:
    """Make every mistake and note its message."""
    messages = {}
    with tempfile.TemporaryDirectory() as place:
        trained = Path(place) / "trained"
        train_tiny(trained)
        for group, faults in GROUPS.items():
            for fault in faults:
                folder = Path(place) / str(len(messages))
                provoked = provoke(fault, trained, folder)
                if provoked.status != 2:
                    print(f"{fault.what}: status {provoked.status}, and {provoked.message!r} was said")
                messages[group, fault.what] = shortened(provoked.message, folder)
    PAGE.write_text(rendered(messages), encoding="utf-8")
    print(f"Saved: {PAGE} ({len(messages)} faults)")


if __name__ == "__main__":
    main()
