"""Groups of processes that run the same function together, started fast: forks of one process that has imported all."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

GRACE = 300  # seconds, on a machine that others use


class Ended(NamedTuple):
    """How a group ended: the exit code of each process (that of a signal is negative), after how long, its output."""

    codes: list[int | None]
    seconds: float
    said: list[str]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run_group(world: int, function: Callable[..., None], folder: Path, *args: Any) -> Ended:
    """Call `function(rank, world, folder, *args)` in each process of a group, as if a launcher had started it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mebert.cli.lightning_command"])
    port, since = free_port(), time.monotonic()
    given = [(function, rank, world, port, folder, args) for rank in range(world)]
    processes = [context.Process(target=_run, args=values) for values in given]
    for process in processes:
        process.start()
    for process in processes:
        process.join(max(0.1, GRACE - (time.monotonic() - since)))
    ended = [process.exitcode for process in processes], time.monotonic() - since
    for process in processes:
        process.kill()
    files = [folder / f"said-{world}-{rank}.txt" for rank in range(world)]
    return Ended(*ended, [file.read_text(encoding="utf-8") if file.exists() else "" for file in files])


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
