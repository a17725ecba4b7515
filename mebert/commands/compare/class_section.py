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
    parts += [Grid([_matrix(run, at) for at in run.evaluation["per_class"]], 420) for run in known[:MOST_RUNS]]
    if len(known) > MOST_RUNS:
        parts.append(Note(f"The matrices of the first {MOST_RUNS} runs; all are in each run's evaluation.json."))
    if old := [str(run.folder) for run in runs if run not in known and run.evaluation.get("oracle")]:
        parts.append(Note(f"Tested by an older mebert, so without figures per class: {', '.join(old)}; test again."))
    return Section("Per class", parts)


def _class_table(runs: Sequence[RunView]) -> Table:
    figures = ("precision", "recall", "F1")
    header = ["run", "class", "support", *(f"{figure}, {where}" for where in AT.values() for figure in figures)]
    rows: list[list[str | float | Cell | None]] = []
    for run in runs:
        reports = [_classes(run, at) for at in AT]
        for number, first in enumerate(reports[0]):
            pair = [classes[number] if classes else {} for classes in reports]
            values = [one.get(figure.lower()) for one in pair for figure in figures]
            before, after = (one.get("f1") for one in pair)
            change = None if before is None or after is None else Cell(f"{after - before:+.4f}", after - before)
            rows.append([run.number, str(first["label"]), int(first["support"]), *values, change])
    words = (
        "Full depth: all rows at the last exit. Operating point: each run's own threshold. Early exit often costs one "
        "class more than the others: sort by the last column."
    )
    return Table([*header, "F1 difference"], rows, words)


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


def _classes(run: RunView, at: str) -> list[dict[str, Any]]:
    return list(run.evaluation["per_class"].get(at, {}).get("classes", []))
