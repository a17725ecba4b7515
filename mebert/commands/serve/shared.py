"""What the processes of a server share: a few numbers, and when each of them ends.

The main process starts one that speaks HTTP, the workers, and the one that holds their queues. Only the main process
acts on SIGTERM; the others get it, too, where a whole group is stopped, and go on until they are told to stop.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

SERVING, DRAINING, STOPPING = 0, 1, 2


class Shared:
    """Numbers in memory that all processes see; each has one writer, so that a process that dies holds no lock.

    Args:
        workers: How many there are.
    """

    def __init__(self, workers: int) -> None:
        context = mp.get_context("spawn")
        self._phase: Any = context.RawValue("i", SERVING)  # written by the main process
        self._manager: Any = context.RawValue("i", 0)  # by it, too: the process id of that with the queues
        self._deaths: Any = context.RawArray("i", workers)  # by it, too: how often each worker has died
        self._failed: Any = context.RawArray(
            "i", workers
        )  # 1 by it where one could not start; 0 by the worker once it could
        self._unanswered: Any = context.RawValue("i", 0)  # by that which speaks HTTP
        self._point: Any = context.RawValue("i", 0)  # by that, too: place of the default operating point
        self.main = os.getpid()

    @property
    def phase(self) -> int:
        """SERVING; DRAINING: new requests are refused; STOPPING: processes end."""
        return self._phase.value

    @phase.setter
    def phase(self, value: int) -> None:
        self._phase.value = value

    @property
    def unanswered(self) -> int:
        """Requests that are not answered yet."""
        return self._unanswered.value

    @unanswered.setter
    def unanswered(self, value: int) -> None:
        self._unanswered.value = value

    @property
    def point(self) -> int:
        """The operating point of requests that name no speed, by its place in the model's list."""
        return self._point.value

    @point.setter
    def point(self, value: int) -> None:
        self._point.value = value

    @property
    def deaths(self) -> list[int]:
        """Of each worker."""
        return list(self._deaths)

    @property
    def none_can_start(self) -> bool:
        """Whether each worker has died, and could not start when that was tried last."""
        return all(self._failed)

    def count_death(self, worker: int, had_started: bool) -> None:
        """Tell that a worker has died, or could not start."""
        self._deaths[worker] += 1
        self._failed[worker] |= not had_started

    def tell_start(self, worker: int) -> bool:
        """Tell that a worker can answer; returns whether it had died before."""
        self._failed[worker] = 0
        return self._deaths[worker] > 0

    def tell_manager(self, pid: int) -> None:
        """Tell which process holds the queues."""
        self._manager.value = pid

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """What a signal to stop does: it interrupts the main process; others end only when they are told to."""
        if os.getpid() == self.main:
            raise KeyboardInterrupt
        if self.phase == STOPPING:
            os._exit(0)

    def end_with_main(self) -> None:
        """End this process soon after the main one, however that ended; a child of it calls this."""

        def watch() -> None:
            while os.getppid() == self.main:
                time.sleep(0.5)
            if self._manager.value:
                with suppress(ProcessLookupError):
                    os.kill(self._manager.value, signal.SIGKILL)
            os._exit(1)

        threading.Thread(target=watch, daemon=True, name="end-with-main").start()
