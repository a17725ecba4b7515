"""The section of the page on single classes: what early exit costs each, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mebert.commands.compare.run_view import RunView
from mebert.report.class_tables import AT, LARGEST_MATRIX, confused_pairs
from mebert.report.page import Cell, Grid, Note, Part, Section, Table

MOST_RUNS = 6  # whose matrices are shown


def class_section(runs: Sequence[RunView]) -> Section | None:
    """Precision, recall and F1 a class, and the confusion matrices, of the tested runs; None where none has classes."""
    known = [run for run in runs if run.evaluation.get("per_class")]
    if not known:
        return None
    parts: list[Part] = [_class_table(known)]
    single = [run for run in known if not _several(run)]
    parts += [Grid([_matrix(run, at) for at in run.evaluation["per_class"]], 420) for run in single[:MOST_RUNS]]
    if len(single) > MOST_RUNS:
        parts.append(Note(f"The matrices of the first {MOST_RUNS} runs; all are in each run's evaluation.json."))
    if old := [str(run.folder) for run in runs if run not in known and run.evaluation.get("oracle")]:
        parts.append(Note(f"Tested by an older mebert, so without figures per class: {', '.join(old)}; test again."))
    return Section("Per class", parts)


def _several(run: RunView) -> bool:
    """Whether rows have several labels, so that nobody is taken for another."""
    matrix = next(iter(run.evaluation["per_class"].values())).get("confusion_matrix")
    return bool(matrix) and isinstance(matrix[0][0], list)


def _class_table(runs: Sequence[RunView]) -> Table:
    places = {"full_depth": "full", "operating_point": "in use"}  # short, so that all columns fit
    figures = [(figure, at) for figure in ("F1", "precision", "recall") for at in places]
    header = ["run", "class", "support", "F1 change", *(f"{figure} {places[at]}" for figure, at in figures)]
    rows: list[list[str | float | Cell | None]] = []
    for run in runs:
        reports = {at: run.evaluation["per_class"].get(at, {}).get("classes", []) for at in places}
        for number, first in enumerate(reports["full_depth"]):
            one = {at: classes[number] if classes else {} for at, classes in reports.items()}
            before, after = (one[at].get("f1") for at in places)
            change = None if before is None or after is None else Cell(f"{after - before:+.4f}", after - before)
            values = [one[at].get(figure.lower()) for figure, at in figures]
            rows.append([run.number, str(first["label"]), int(first["support"]), change, *values])
    words = (
        "Full: all rows at the last exit. In use: at each run's own threshold. Early exit often costs one class more "
        "than the others: sort by the change of F1."
    )
    return Table(header, rows, words)


def _matrix(run: RunView, at: str) -> Table:
    report: dict[str, Any] = run.evaluation["per_class"][at]
    names = [str(row["label"]) for row in report["classes"]]
    where = f"Run {run.number}, {AT.get(at, at)}"
    if len(names) > LARGEST_MATRIX:
        pairs = confused_pairs([report["confusion_matrix"]])
        found: list[list[str | float | Cell | None]] = [[names[t], names[p], counts[0]] for t, p, counts in pairs]
        return Table(["true class", "predicted", "rows"], found, f"{where}: the classes that are mistaken most often.")
    rows: list[list[str | float | Cell | None]] = [
        [name, *(_count(count, right=row == column) for column, count in enumerate(counts))]
        for row, (name, counts) in enumerate(zip(names, report["confusion_matrix"], strict=True))
    ]
    words = f"{where}: confusion matrix, a row a true class, a column a predicted one."
    return Table(["class", *names], rows, words, sortable=False)


def _count(count: int, right: bool) -> Cell:
    return Cell(f"{count:,}", count, look="strong" if right else "" if count else "dim")
