"""Jobs that SLURM requeues, on request or after a node has failed: the same command resumes its last run.

Environment variables: https://slurm.schedmd.com/sbatch.html
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mebert.storage.atomic import write_text
from mebert.storage.run_folder import RunFolder

NOTE = "slurm_job.json"


def job_id() -> str | None:
    """This job as `scontrol` names it; None outside of SLURM."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if array else os.environ.get("SLURM_JOB_ID")


def note_job(run_folder: Path, command: Sequence[str]) -> None:
    """Write the job and the command into a run's folder; does nothing outside of SLURM."""
    if job_id() is not None:
        write_text(json.dumps({"job": job_id(), "command": list(command)}), run_folder / NOTE)


def requeued_checkpoint(experiment_folder: Path, command: Sequence[str]) -> Path | None:
    """The last checkpoint of the same command in the same job, before the job was requeued; None if it was not."""
    if job_id() is None or os.environ.get("SLURM_RESTART_COUNT", "0") in ("", "0"):
        return None
    found = [
        path
        for note in experiment_folder.glob(f"*/{NOTE}")
        if _read(note) == {"job": job_id(), "command": list(command)}
        and (path := RunFolder(note.parent).checkpoint("last")).is_file()
    ]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def requeue_job() -> str:
    """Requeue this job; returns a message for the user."""
    command = ["scontrol", "requeue", str(job_id())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        fault = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        fault = str(error)
    if fault:
        return f"`{' '.join(command)}` failed: {fault}"
    return f"job {job_id()} is in the queue again and will go on from here"


def _read(note: Path) -> object:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
