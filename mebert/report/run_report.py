"""What a command says of an evaluation: a summary on the screen, and all tables as `report.md` in the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from mebert.report.evaluation import Evaluation
from mebert.report.layout import as_markdown, console, print_pairs, print_table
from mebert.report.summary import one_line, summary_table
from mebert.report.tables import evaluation_tables, print_evaluation
from mebert.storage.atomic import write_text
from mebert.storage.markdown import plain_markdown
from mebert.storage.operating_point import OperatingPoint


def print_report(evaluations: Sequence[Evaluation], point: OperatingPoint, verbose: bool, parts: Table) -> None:
    """Print the summary of the first split, and a line for each other one; with `verbose` all tables before it."""
    out = console()
    if verbose:
        print_table(parts, out)
        for evaluation in evaluations:
            print_evaluation(evaluation)
    first, *others = evaluations
    print_table(summary_table(first), out)
    for other in others:
        out.print(one_line(other), soft_wrap=True)
    print_pairs("In use:", point.as_lines())


def write_report(evaluation: Evaluation, point: OperatingPoint, parts: Table, path: Path, title: str) -> None:
    """Write the summary and all tables as Markdown; beside it stands `curve.png` of the same suffix, if any."""
    lines = [f"- {name}: {value}" for name, value in point.as_lines().items()]
    picture = path.with_name(path.name.replace("report", "curve")).with_suffix(".png")
    tables = [as_markdown(table) for table, _ in evaluation_tables(evaluation)]
    content = [
        f"# {plain_markdown(title)}",
        as_markdown(summary_table(evaluation)),
        "In use:\n\n" + "\n".join(lines),
        *([f"![The accuracy-speed curve]({picture.name})"] if picture.is_file() else []),
        *tables,
        as_markdown(parts),
    ]
    write_text("\n\n".join(content) + "\n", path)
