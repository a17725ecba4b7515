"""Where a server asks which operating point it shall answer at: the hook of an elastic server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mebert.serving.model_info import ServedPoint


class PointControl(Protocol):
    """Chooses the operating point of requests that name no speed.

    One object in the one process that speaks HTTP; its methods are called from one thread, with a clock in seconds
    that never goes back (`time.monotonic`). `update` is called at every tick (`TICK`) and
    after answers, at most once in a few milliseconds. What it returns is written to shared memory, which every worker
    reads before each of its batches: so it holds for the requests that wait already. Requests that name a speed are
    told to it, too: they take time. The time at each point is counted in `/metrics`.
    """

    def arrived(self, now: float) -> None:
        """A request came in, refused for want of room or not."""

    def finished(self, now: float, latency: float) -> None:
        """A request was answered, `latency` seconds after it came."""

    def update(self, now: float, waiting: int, oldest: float) -> int:
        """The point from now on, by its place among the points that the control was made with.

        Args:
            now: The time.
            waiting: Requests that are not answered yet.
            oldest: Seconds since the oldest of them came; 0 without any.
        """


MakeControl = Callable[[Sequence[ServedPoint]], PointControl]
"""Makes a control once the model is known: `mebert/commands/serve/run.py` names it. A UserError ends the server.

The points are those of `/info`, the first is the default one; `update` gives a place among them."""

TICK = 0.1  # seconds


class DefaultPoint:
    """The model's own point, always."""

    def __init__(self, points: Sequence[ServedPoint]) -> None:
        pass

    def arrived(self, now: float) -> None:
        """Nothing to do."""

    def finished(self, now: float, latency: float) -> None:
        """Nothing to do."""

    def update(self, now: float, waiting: int, oldest: float) -> int:
        """The first one."""
        return 0
