"""When a worker that has died is started again, and what is logged then."""

from __future__ import annotations

import logging
import time
from multiprocessing.process import BaseProcess

from litserve.utils import WorkerSetupStatus

from mebert.commands.serve.worker import ClassifierAPI

PAUSE = 5.0  # seconds before a worker that died within as many after its start is started again
LONGEST_PAUSE = 60.0  # before one that could not start; doubles from PAUSE on, as each try takes time from the others

logger = logging.getLogger(__name__)


class Restarts:
    """What is known of each worker's deaths; `api` keeps why one could not start, and counts the dead."""

    def __init__(self, api: ClassifierAPI) -> None:
        self._api = api
        self._started: dict[int, float] = {}
        self._failed_starts: dict[int, int] = {}  # of each worker, since it ran
        self._due: dict[int, float] = {}  # when those that are dead are started again
        self._told: dict[int, str] = {}  # of each worker, the last line on why it is started again

    def is_due(self, worker: int, dead: BaseProcess, statuses: dict[str, str]) -> bool:
        """Whether a dead worker is started now; its death is counted and told when this is first asked.

        Args:
            worker: Its number.
            dead: Its process.
            statuses: LitServe's, of every worker by name; that of this one becomes STARTING.
        """
        now = time.monotonic()
        if worker not in self._due:
            self._due[worker] = now + self._pause(worker, self._tell_of_death(worker, dead, statuses), now)
        if now < self._due[worker]:
            return False
        del self._due[worker]
        self._started[worker] = now
        return True

    def _pause(self, worker: int, had_started: bool, now: float) -> float:
        if had_started:
            self._failed_starts[worker] = 0
            return PAUSE if now - self._started.get(worker, -PAUSE) < PAUSE else 0.0
        failed = self._failed_starts[worker] = self._failed_starts.get(worker, 0) + 1
        return min(PAUSE * 2 ** min(failed - 1, 10), LONGEST_PAUSE)

    def _tell_of_death(self, worker: int, dead: BaseProcess, statuses: dict[str, str]) -> bool:
        """Count and log it, why a worker cannot start once for each reason; returns whether it had started."""
        name, code = f"predict_{worker}", dead.exitcode or 0
        had_started = statuses[name] == WorkerSetupStatus.READY
        statuses[name] = WorkerSetupStatus.STARTING
        self._api.shared.count_death(worker, had_started)
        ended = f"by signal {-code}" if code < 0 else f"with status {code}"
        line = f"worker {worker + 1} has died, {ended}, and is started again"
        if not had_started:
            why = self._api.failures.pop(worker, f"it ended {ended}")
            again = f"tried again {PAUSE:g} to {LONGEST_PAUSE:g} s later"
            line = f"worker {worker + 1} cannot start ({again}): {why}"
        if had_started or line != self._told.get(worker):
            logger.warning(line)
        self._told[worker] = line
        return had_started
