"""Run the cells of a study: several at a time, each in a process of its own, shared with other `study` commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mebert.commands.study.cell import CellFolder
from mebert.commands.study.grid import Cell
from mebert.errors import UserError
from mebert.runtime.progress import Progress, duration

__all__ = ["Outcome", "available_cores", "run_cells"]

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0


@dataclass
class Outcome:
    """What became of the cells that were asked for.

    Attributes:
        done: Finished, before or now.
        failed: Whose run failed.
        elsewhere: Being run by another `study` command.
    """

    done: list[Cell] = field(default_factory=list)
    failed: list[Cell] = field(default_factory=list)
    elsewhere: list[Cell] = field(default_factory=list)


@dataclass
class _Running:
    folder: CellFolder
    process: subprocess.Popen[bytes]
    begin: float


def available_cores() -> int:
    """The cores that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


def run_cells(cells: list[Cell], jobs: int, threads: int, keep: str) -> Outcome:
    """Run what is not done yet, `jobs` at a time; the failure of one does not end the others.

    Args:
        cells: Those asked for.
        jobs: Runs at a time.
        threads: Threads of each.
        keep: As `Study.keep`.
    """
    outcome = Outcome()
    waiting: list[Cell] = []
    for cell in cells:
        (waiting if CellFolder(cell).done() is None else outcome.done).append(cell)
    if outcome.done:
        print(f"{len(outcome.done)} of {len(cells)} runs are done already", flush=True)
    progress = _Progress(len(cells), len(outcome.done), jobs)
    running: list[_Running] = []
    bar = Progress("runs", len(cells), timed=False)
    with _stopping_on_sigterm(), bar:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    started = _start(waiting.pop(0), threads, outcome)
                    if started is None:
                        progress.done += 1
                    else:
                        running.append(started)
                time.sleep(POLL_SECONDS)
                for one in [r for r in running if r.process.poll() is not None]:
                    running.remove(one)
                    _finish(one, keep, outcome, progress)
                for one in running:
                    one.folder.claim.touch()
                bar.update("runs", len(cells), progress.done, progress.words(running))
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                _wait(one.process)
                one.folder.claim.release()
    return outcome


def _start(cell: Cell, threads: int, outcome: Outcome) -> _Running | None:
    folder = CellFolder(cell)
    if not folder.claim.take():
        print(f"{cell.name}: left to {folder.claim.owner()} ({folder.claim.path})", flush=True)
        outcome.elsewhere.append(cell)
        return None
    if folder.done() is not None:  # by another command, since this one began
        folder.claim.release()
        outcome.done.append(cell)
        return None
    checkpoint = folder.prepare()
    command = [sys.executable, "-m", "mebert", "fit", "--config", str(folder.config)]
    command += [] if checkpoint is None else ["--ckpt_path", str(checkpoint)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with folder.log.open("ab" if checkpoint is not None else "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )
    return _Running(folder, process, time.monotonic())


def _finish(one: _Running, keep: str, outcome: Outcome, progress: _Progress) -> None:
    cell, folder, status = one.folder.cell, one.folder, one.process.returncode
    try:
        if status == 0:
            done = folder.finish(time.monotonic() - one.begin, keep)
            outcome.done.append(cell)
            progress.say(cell, done.seconds, _metric(done.evaluation()))
            return
        reason = f"failed with status {status}" if status > 0 else f"was ended by signal {-status}"
        words = folder.last_words()
    except (UserError, OSError) as error:
        reason, words = "failed", f"    {error}"
    finally:
        folder.claim.release()
    outcome.failed.append(cell)
    print(f"{cell.name} {reason}; the end of {folder.log}:\n{words}", flush=True)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until a process that was asked to end has ended."""
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _metric(evaluation: dict[str, Any]) -> str:
    name = evaluation["metric"]
    return f"{name} {evaluation['exits'][-1][name]:.4f}"


class _Progress:
    """One line a finished run, with the time that is left as the mean of this command's runs has it.

    What another command does counts as done.
    """

    def __init__(self, total: int, done: int, jobs: int) -> None:
        self.total, self.done, self.jobs = total, done, jobs
        self._seconds: list[float] = []

    def say(self, cell: Cell, seconds: float, metric: str) -> None:
        """Count one and print it."""
        self.done += 1
        self._seconds.append(seconds)
        left = self._mean() * (self.total - self.done) / self.jobs
        rest = f", about {duration(left)} left" if self.done < self.total else ""
        print(f"[{self.done}/{self.total}] {cell.name}: {metric}, {seconds:.0f} s{rest}", flush=True)

    def words(self, running: Sequence[_Running]) -> str:
        """Of the runs that are going on: how many, and how long all will take from now."""
        found = f"{len(running)} going on"
        if self._seconds and self.done < self.total:
            now = time.monotonic()
            spent = sum(min(now - one.begin, self._mean()) for one in running)
            left = max(0.0, self._mean() * (self.total - self.done) - spent) / self.jobs
            found += f", about {duration(left)} left"
        return found

    def _mean(self) -> float:
        return sum(self._seconds) / len(self._seconds)


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """Let SIGTERM (of a cluster's scheduler, say) end the runs, too, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
