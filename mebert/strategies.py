"""How processes share a training: DDP, with patience for what one of them does alone."""

from __future__ import annotations

from datetime import timedelta

from lightning.pytorch.strategies import DDPStrategy

__all__ = ["PatientDDP"]


class PatientDDP(DDPStrategy):
    """Lightning's `ddp` with another time after which a process that does not answer is given up.

    A process that dies is noticed at once, whatever this is.

    Args:
        timeout: Longer than what one process does while the others wait (tokenising a large corpus for the first time,
            training the teachers of a cross-review), which Lightning's half hour may not be.
    """

    def __init__(self, timeout: timedelta = timedelta(hours=2)) -> None:
        super().__init__(timeout=timeout)
