"""What a process says when another one of the run has gone: gloo itself, on two processes."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.multiprocessing import start_processes

from mebert.runtime.distributed import lost_process


def collective(rank: int, folder: str, fault: str) -> None:
    """One of two processes; the second does not take part as it should."""
    distributed.init_process_group("gloo", f"file://{folder}/store", timedelta(seconds=2), 2, rank)
    distributed.barrier()
    if rank == 1:
        time.sleep(3 if fault == "silent" else 0)
        os._exit(0)
    try:
        distributed.all_reduce(torch.ones(1))
    except RuntimeError as error:
        Path(folder, f"said_{rank}").write_text(f"{error}\n{lost_process(error)}", encoding="utf-8")
    os._exit(0)


@pytest.mark.parametrize("fault", ["dead", "silent"])
def test_a_lost_process_is_told_from_other_errors(fault, tmp_path):
    start_processes(collective, (str(tmp_path), fault), nprocs=2, start_method="fork")
    original, *_, message = (tmp_path / "said_0").read_text("utf-8").splitlines()
    assert "gloo" in original
    assert message.startswith("another process of this run has ended")


def test_only_errors_of_a_run_of_several_processes_count():
    assert lost_process(RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer")) is None
