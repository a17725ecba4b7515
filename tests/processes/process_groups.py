"""Groups of processes that run the same function together, started fast: forks of one process that has imported all."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE = 300  # seconds, on a machine that others use


@dataclass
class Ended:
    """How a group ended.

    Args:
        codes: Exit code of each process; that of a signal is negative.
        seconds: From the start to the last one's end.
        said: What each wrote.
    """

    codes: list[int | None]
    seconds: float
    said: list[str]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(world: int, function: Callable[..., None], folder: Path, *args: Any) -> list[Any]:
    """Processes that call `function(rank, world, folder, *args)`; as if a launcher had started them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mebert.cli.lightning"])
    port = free_port()
    given = [(function, rank, world, port, folder, args) for rank in range(world)]
    processes = [context.Process(target=_run, args=values) for values in given]
    for process in processes:
        process.start()
    return processes


def wait(processes: list[Any], folder: Path, since: float, limit: float = GRACE) -> Ended:
    for process in processes:
        process.join(max(0.1, limit - (time.monotonic() - since)))
    codes = [process.exitcode for process in processes]
    seconds = time.monotonic() - since
    for process in processes:
        process.kill()
    files = [folder / f"said-{len(processes)}-{rank}.txt" for rank in range(len(processes))]
    return Ended(codes, seconds, [file.read_text(encoding="utf-8") if file.exists() else "" for file in files])


def run_group(world: int, function: Callable[..., None], folder: Path, *args: Any) -> Ended:
    """Start a group and wait until all its processes have ended."""
    since = time.monotonic()
    return wait(start(world, function, folder, *args), folder, since)


def _run(function: Callable[..., None], rank: int, world: int, port: int, folder: Path, args: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for workers of loaders, as in a process that a user starts
    if world > 1:
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with open(folder / f"said-{world}-{rank}.txt", "w", encoding="utf-8", buffering=1) as said:
        sys.stdout = sys.stderr = said
        try:
            function(rank, world, folder, *args)
        except BaseException:
            traceback.print_exc()
            said.flush()
            # As a process ends that nobody has asked to be tidy: no handler waits for the others.
            os._exit(1)
