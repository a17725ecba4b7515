"""Runs that can be compared, together: those of one task, tested on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

from mebert.commands.compare.run_view import RunView
from mebert.commands.compare.runs import check_comparable
from mebert.errors import UserError

__all__ = ["TaskGroup", "blocks_of"]


@dataclass
class TaskGroup:
    """Runs of one task, tested on the same rows.

    Attributes:
        task: Its name.
        runs: In the order given; those that were not tested, too.
    """

    task: str
    runs: list[RunView]

    @property
    def shown(self) -> list[RunView]:
        """Those that were tested."""
        return [run for run in self.runs if run.evaluation is not None]

    @property
    def untested(self) -> list[RunView]:
        """Those that were not."""
        return [run for run in self.runs if run.evaluation is None]


def blocks_of(runs: list[RunView]) -> list[TaskGroup]:
    """Runs that can be compared, together; a run that was not tested stands with the first of its task."""
    blocks: list[TaskGroup] = []
    for run in sorted(runs, key=lambda one: one.evaluation is None):  # stable: tested runs open the blocks
        home = next((block for block in blocks if _belongs(run, block)), None)
        if home is None:
            blocks.append(TaskGroup(run.task, [run]))
        else:
            home.runs.append(run)
    for block in blocks:
        block.runs.sort(key=lambda one: one.number)
    return sorted(blocks, key=lambda block: block.runs[0].number)


def _belongs(run: RunView, block: TaskGroup) -> bool:
    first = block.runs[0]
    if run.task != first.task:
        return False
    if run.evaluation is None or first.evaluation is None:
        return True
    if (run.evaluation["metric"], run.evaluation.get("samples")) != (
        first.evaluation["metric"],
        first.evaluation.get("samples"),
    ):
        return False
    one, two = next((r.comparable for r in block.runs if r.comparable), None), run.comparable
    if one is None or two is None:
        return True
    try:
        check_comparable([one, two])
    except UserError:
        return False
    return True
