"""Runs that can be compared with one another: those of one task, tested on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mebert.commands.compare.paired import mismatch
from mebert.commands.compare.run_view import RunView


@dataclass
class TaskGroup:
    """Runs of one task, tested on the same rows.

    Attributes:
        task: Its name.
        runs: In the order given, those without a test included.
    """

    task: str
    runs: list[RunView]

    @property
    def tested(self) -> list[RunView]:
        """The runs that were tested."""
        return [run for run in self.runs if run.evaluation]

    @property
    def untested(self) -> list[RunView]:
        """The runs that were not."""
        return [run for run in self.runs if not run.evaluation]


def task_groups(runs: Sequence[RunView]) -> list[TaskGroup]:
    """Group runs that can be compared; a run without a test joins the first group of its task."""
    groups: list[TaskGroup] = []
    for run in sorted(runs, key=lambda one: not one.evaluation):  # stable: tested runs first
        home = next((group for group in groups if _belongs(run, group)), None)
        if home is None:
            groups.append(TaskGroup(run.task, [run]))
        else:
            home.runs.append(run)
    for group in groups:
        group.runs.sort(key=lambda one: one.number)
    return sorted(groups, key=lambda group: group.runs[0].number)


def _belongs(run: RunView, group: TaskGroup) -> bool:
    first = group.runs[0]
    if run.task != first.task or not run.evaluation or not first.evaluation:
        return run.task == first.task
    if any(run.evaluation.get(key) != first.evaluation.get(key) for key in ("metric", "samples")):
        return False
    recorded = next((one for one in group.runs if one.record is not None), None)
    return recorded is None or run.record is None or mismatch(recorded, run) is None
