"""A DDP strategy with a long timeout."""

from __future__ import annotations

from datetime import timedelta

from lightning.pytorch.strategies import DDPStrategy


class PatientDDP(DDPStrategy):
    """Lightning's `ddp` with a longer timeout of collectives. A process that dies is noticed at once in any case.

    Args:
        timeout: Must exceed the time for which one process works while the others wait (tokenising a large corpus,
            training the teachers of a cross-review), for which Lightning's half hour may be too short.
    """

    def __init__(self, timeout: timedelta = timedelta(hours=2)) -> None:
        super().__init__(timeout=timeout)
