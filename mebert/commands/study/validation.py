"""Which recipe of a study is the best on validation data, by `val/auc`: the choice that no test row has seen."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence

from mebert.commands.study.cell import Cell
from mebert.storage.markdown import markdown_table
from mebert.storage.run_folder import RunFolder

METRIC = "val/auc"
TEXT = (
    "The area under the curve of the recipe's own exit rule on validation data at its best epoch (`val/auc`), mean "
    "over the seeds, the best first. Choose by it where recipes differ in settings alone and have the same exits; the "
    "test rows then say how good the chosen one is."
)


def ranked_by_validation(cells: Sequence[Cell], task: str) -> list[tuple[str, float, Cell]]:
    """The recipes with finished runs on a task: name, mean `val/auc` over the seeds, best seed's cell; best first."""
    found: dict[str, list[tuple[float, Cell]]] = {}
    for cell in cells:
        if cell.task == task and cell.done() is not None and not math.isnan(value := _best(cell)):
            found.setdefault(cell.recipe, []).append((value, cell))
    rows = [
        (recipe, statistics.mean(value for value, _ in of_recipe), max(of_recipe, key=lambda one: one[0])[1])
        for recipe, of_recipe in found.items()
    ]
    return sorted(rows, key=lambda row: -row[1])


def validation_table(rows: Sequence[tuple[str, float, Cell]]) -> list[str]:
    """The blocks of a report about `ranked_by_validation`; none where there is nothing to choose."""
    if len(rows) < 2:
        return []
    return [TEXT, markdown_table(["recipe", METRIC], [[recipe, f"{100 * value:.2f}"] for recipe, value, _ in rows])]


def _best(cell: Cell) -> float:
    """The largest `val/auc` over the epochs of a cell, a run that went on included; NaN without any."""
    values: list[float] = []
    for path in (RunFolder(run).metrics for run in cell.runs()):
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                values += [float(row[METRIC]) for row in csv.DictReader(file) if row.get(METRIC)]
    return max((value for value in values if not math.isnan(value)), default=math.nan)
