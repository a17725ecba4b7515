"""Run the cells of a study, each as `python -m mebert fit` in a process of its own, on this machine or on Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mebert.commands.study.cell import Cell, Done
from mebert.commands.study.owner import exclusive_owner
from mebert.errors import UserError
from mebert.runtime.parent import GRACE_SECONDS, RUN_LOCK, WATCH_STDIN, wait_for_earlier_run
from mebert.runtime.progress import Progress, duration

Result = tuple[Cell, Done | str]  # a cell with its finished run, or with the reason why there is none


def run_cell(cell: Cell, threads: int, keep: str, folder: Path, stdin: int = subprocess.PIPE) -> Done | str:
    """Run one cell, from its last checkpoint if there is one; returns its finished run, or why it failed.

    `folder` is the run's working directory, `keep` as `Study.keep`, and `stdin` a pipe: the run stops when its other
    end is closed, by default when this process ends. A cell that is done meanwhile is not run again.
    """
    try:
        with exclusive_owner(cell.folder):
            done = cell.done()
            if done is not None:
                return done
            lock = cell.folder / "run.lock"
            wait_for_earlier_run(lock)
            begin = time.monotonic()
            checkpoint = cell.prepare()
            command = [sys.executable, "-m", "mebert", "fit", "--config", str(cell.config_file)]
            command += [] if checkpoint is None else ["--ckpt_path", str(checkpoint)]
            own = {"OMP_NUM_THREADS": str(threads), WATCH_STDIN: "1", RUN_LOCK: str(lock.absolute())}
            more: dict[str, Any] = {"env": {**os.environ, **own}}
            more |= {"start_new_session": True}  # Ctrl-C reaches the study alone, which ends its runs by their stdin
            with (
                cell.log.open("wb" if checkpoint is None else "ab") as log,
                subprocess.Popen(command, stdin=stdin, stdout=log, stderr=log, cwd=folder, **more) as process,
            ):
                status = process.wait()
            if status == 0:
                return cell.finish(time.monotonic() - begin, keep)
    except (UserError, OSError) as error:
        return f"{cell.name} failed: {error}"
    reason = f"failed with status {status}" if status > 0 else f"was ended by signal {-status}"
    return f"{cell.name} {reason}; the end of {cell.log}:\n{cell.last_lines()}"


def run_locally(cells: Sequence[Cell], threads: int, keep: str, jobs: int) -> Generator[Result]:
    """Run cells on this machine, `jobs` at a time; when the generator is closed, what still runs is stopped."""
    stdin, alive = os.pipe()
    try:
        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(run_cell, cell, threads, keep, Path.cwd(), stdin): cell for cell in cells}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                os.close(alive)
    finally:
        os.close(stdin)


def run_on_ray(cells: Sequence[Cell], threads: int, keep: str, address: str, gpus: float) -> Generator[Result]:
    """Run cells on a cluster; when the generator is closed, what still runs is stopped.

    mebert must be installed on every machine, and this working directory be there under the same path. A task takes
    `threads` CPUs and `gpus` GPUs; if its machine is lost, Ray starts it again, and it resumes.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("ray was given, but Ray is not installed: pip install 'mebert[ray]'") from error
    try:
        ray.init(address, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"ray {address!r}: {str(error).splitlines()[0]}") from error
    task = ray.remote(run_cell)
    resources = {"num_cpus": threads, "num_gpus": gpus}
    waiting = {
        task.options(name=cell.name, **resources).remote(cell, threads, keep, Path.cwd()): cell for cell in cells
    }
    try:
        while waiting:
            (ended, *_), _ = ray.wait(list(waiting))
            cell = waiting.pop(ended)
            try:
                yield cell, ray.get(ended)
            except ray.exceptions.RayError as error:
                yield cell, f"{cell.name} failed: {error}"
    finally:
        for reference in waiting:
            ray.cancel(reference)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=GRACE_SECONDS)
        ray.shutdown()


def follow(results: Generator[Result], total: int, done: int) -> list[Cell]:
    """Print a line for each run that has ended, with the time left; returns the cells that failed.

    Closes the results at the end, also on Ctrl-C and SIGTERM. Of `total` cells, `done` were done before.
    """
    failed: list[Cell] = []
    begin, before = time.monotonic(), done
    with _stopping_on_sigterm(), closing(results), Progress("runs", total - done) as bar:
        for cell, result in results:
            bar.tick()
            if isinstance(result, str):
                failed.append(cell)
                print(result, flush=True)
                continue
            done += 1
            evaluation = result.evaluation()
            metric = evaluation["metric"]
            left = (time.monotonic() - begin) / (done - before) * (total - done)
            rest = f", about {duration(left)} left" if done < total else ""
            score = f"{metric} {evaluation['exits'][-1][metric]:.4f}"
            print(f"[{done}/{total}] {cell.name}: {score}, {result.seconds:.0f} s{rest}", flush=True)
    return failed


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """Let SIGTERM (of a cluster's scheduler, for example) stop the runs as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
