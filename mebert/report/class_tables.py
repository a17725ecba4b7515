"""The tables of the classes: precision, recall, F1 and support of each, and who is taken for whom."""

from __future__ import annotations

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
    if len(evaluation.classes["full_depth"].classes) > LARGEST_MATRIX:
        return [_classes(evaluation, reports), _confused_pairs(reports)]
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
    columns = ["support", *(f"{figure} {where}" for where in reports for figure in ("precision", "recall", "F1"))]
    two = len(reports) == 2
    table = report_table(
        f"Per class ({evaluation.split})",
        ["class"],
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


def _confused_pairs(reports: dict[str, ClassReport]) -> Table:
    names = [row.label for row in next(iter(reports.values())).classes]
    counts = {
        (true, predicted): [report.matrix[true][predicted] for report in reports.values()]
        for true in range(len(names))
        for predicted in range(len(names))
        if true != predicted
    }
    worst = sorted((pair for pair in counts if any(counts[pair])), key=lambda pair: -counts[pair][-1])[:MOST_PAIRS]
    table = report_table(
        "Classes that are mistaken most often", ["true class", "predicted"], reports, "All pairs: evaluation.json."
    )
    for pair in worst:
        table.add_row(*(names[number] for number in pair), *(f"{count:,}" for count in counts[pair]))
    return table
