"""Run the cells of a study as tasks of a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from mebert.commands.study.cell import Cell
from mebert.commands.study.parent import GRACE_SECONDS
from mebert.commands.study.run_cells import Result, run_cell
from mebert.errors import UserError

__all__ = ["run_on_ray"]


def run_on_ray(cells: Sequence[Cell], threads: int, keep: str, address: str, gpus: float) -> Generator[Result]:
    """Run cells on a cluster; when the generator is closed, what still runs is stopped.

    mebert must be installed on every machine, and this working directory be there under the same path. A task whose
    machine is lost is started again by Ray, and resumes from its last checkpoint.

    Args:
        cells: Those to run.
        threads: CPUs of a task, and threads of PyTorch in it.
        keep: As `run_cell`.
        address: As of `ray.init`: auto, local, host:port, ray://host:port.
        gpus: GPUs of a task.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
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
