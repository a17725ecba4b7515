"""All faults, in groups, as docs/errors.md shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from faults import arguments, checkpoints, configs, data_files, hub, models
from faults.fault import Fault

__all__ = ["GROUPS", "every_fault"]

GROUPS: Mapping[str, Sequence[Fault]] = {
    "Own files": data_files.FAULTS,
    "Settings and configurations": configs.FAULTS,
    "Encoders and saved models": models.FAULTS,
    "The Hub": hub.FAULTS,
    "Checkpoints and runs": checkpoints.FAULTS,
    "Arguments of commands and of EarlyExitClassifier": arguments.FAULTS,
}


def every_fault() -> list[tuple[str, Fault]]:
    """Each fault with its group."""
    return [(group, fault) for group, faults in GROUPS.items() for fault in faults]
