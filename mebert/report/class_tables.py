"""The tables of the classes: precision, recall, F1 and support of each, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mebert.metrics.per_class import ClassReport
from mebert.report.evaluation import Evaluation
from mebert.report.layout import report_table

LARGEST_MATRIX = 15  # classes; of more, the pairs that are mistaken most often
MOST_PAIRS = 30
AT = {"full_depth": "full depth", "operating_point": "operating point"}


def class_tables(evaluation: Evaluation) -> list[Table]:
    """The tables of the classes at full depth and at the operating point; none in a regression."""
    if not evaluation.classes:
        return []
    reports = {AT[name]: found for name, found in evaluation.classes.items()}
    if evaluation.classes["full_depth"].multi_label:  # nobody is taken for another
        return [_classes(evaluation, reports)]
    if len(evaluation.classes["full_depth"].classes) > LARGEST_MATRIX:
        return [_classes(evaluation, reports), _pairs_table(reports)]
    return [_classes(evaluation, reports), *(_matrix(report, where) for where, report in reports.items())]


def hardest_hit(evaluation: Evaluation) -> str | None:
    """The class whose F1 early exit lowers most at the operating point, in words; None where it lowers none."""
    full, early = (evaluation.classes.get(name) for name in AT)
    if full is None or early is None:
        return None
    drop, before, after = max(
        ((a.f1 - b.f1, a, b) for a, b in zip(full.classes, early.classes, strict=True)), key=lambda found: found[0]
    )
    if drop <= 0:
        return None
    return (
        f"Early exit costs {before.label!r} most: F1 {before.f1:.4f} at full depth, {after.f1:.4f} in use "
        f"({before.support:,} samples)."
    )


def _classes(evaluation: Evaluation, reports: dict[str, ClassReport]) -> Table:
    what = "label" if reports["full depth"].multi_label else "class"
    columns = ["support", *(f"{figure} {where}" for where in reports for figure in ("precision", "recall", "F1"))]
    two = len(reports) == 2
    table = report_table(
        f"Per {what} ({evaluation.split})",
        [what],
        [*columns, *(["F1 difference"] if two else [])],
        hardest_hit(evaluation),
    )
    for rows in zip(*(report.classes for report in reports.values()), strict=True):
        figures = [f"{value:.4f}" for row in rows for value in (row.precision, row.recall, row.f1)]
        last = [f"{rows[-1].f1 - rows[0].f1:+.4f}"] if two else []
        table.add_row(rows[0].label, f"{rows[0].support:,}", *figures, *last)
    return table


def _matrix(report: ClassReport, where: str) -> Table:
    names = [row.label for row in report.classes]
    table = report_table(f"Confusion matrix, {where}: a row a true class, a column a predicted one", ["class"], names)
    for name, row in zip(names, report.matrix, strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    return table


def _pairs_table(reports: dict[str, ClassReport]) -> Table:
    names = [row.label for row in next(iter(reports.values())).classes]
    title = "Classes that are mistaken most often"
    table = report_table(title, ["true class", "predicted"], reports, "All pairs: evaluation.json.")
    for true, predicted, counts in confused_pairs([report.matrix for report in reports.values()]):
        table.add_row(names[true], names[predicted], *(f"{count:,}" for count in counts))
    return table


def confused_pairs(matrices: Sequence[Sequence[Sequence[int]]]) -> list[tuple[int, int, list[int]]]:
    """The (true, predicted) classes that the last of some matrices (C, C) confuses most often, with each one's count.

    >>> confused_pairs([[[5, 1], [0, 4]], [[3, 3], [2, 2]]])
    [(0, 1, [1, 3]), (1, 0, [0, 2])]
    """
    classes = range(len(matrices[0]))
    found = [(t, p, [matrix[t][p] for matrix in matrices]) for t in classes for p in classes if t != p]
    return sorted((one for one in found if any(one[2])), key=lambda one: -one[2][-1])[:MOST_PAIRS]
