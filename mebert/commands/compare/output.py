"""A comparison as text, markdown or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from mebert.choices import CompareFormat
from mebert.commands.compare.paired import Comparison, Paired
from mebert.errors import UserError
from mebert.report.plots import METRIC_TITLES

__all__ = ["CompareFormat", "as_csv", "as_markdown", "format_of", "print_comparison"]

SUFFIXES: dict[str, CompareFormat] = {".md": "md", ".csv": "csv", ".txt": "text", ".html": "html", ".htm": "html"}
SUFFIXES |= {".png": "png", ".pdf": "png", ".svg": "png"}
FILES = ("png", "html")
TESTS = {"mcnemar": "McNemar's exact test", "bootstrap": "paired bootstrap"}


def format_of(given: CompareFormat | None, out: Path | None) -> CompareFormat:
    """The format that was asked for, else what the file's name ends in, else text.

    Raises:
        UserError: The name says nothing, or a picture or a page has no file to go to.
    """
    if given in FILES and out is None:
        raise UserError(f"format {given} needs a file: --out report.{given}")
    if given is not None or out is None:
        return given or "text"
    if out.suffix not in SUFFIXES:
        raise UserError(f"out {out}: give a name that ends in {', '.join(SUFFIXES)}, or give --format")
    return SUFFIXES[out.suffix]


def run_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of runs."""
    speeds = [f"{speed:g}x" for speed in comparison.speedups]
    several = len(comparison.runs) > 1
    header = ["run", "recipe", "policy", "seed", *speeds, "area", *(["over 1"] if several else [])]
    rows = []
    for number, run in enumerate(comparison.runs):
        over = [_signed(comparison.over_first[number])] if several else []
        values = [_number(value) for value in comparison.metrics[number]]
        seed = "" if run.seed is None else str(run.seed)
        rows.append([str(number + 1), run.recipe, run.policy, seed, *values, _number(run.area), *over])
    return header, rows


def paired_rows(comparison: Comparison, numbers: Sequence[int] = ()) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of paired tests.

    Args:
        comparison: The runs.
        numbers: What the runs are called; from 1 on where nothing is given.
    """
    numbers = numbers or range(1, len(comparison.runs) + 1)
    rows = []
    for paired in comparison.paired:
        interval = "" if paired.interval is None else f"{paired.interval.low:+.4f} to {paired.interval.high:+.4f}"
        values = [f"{paired.value:+.4f}", interval, _p_value(paired)]
        rows.append([f"{numbers[paired.run]} - {numbers[0]}", f"{paired.speedup:g}x", *values])
    return ["runs", "speed-up", "difference", "95 % interval", "p"], rows


def titles(comparison: Comparison) -> tuple[str, str]:
    """What the two tables are."""
    run = comparison.runs[0]
    metric = METRIC_TITLES.get(run.metric, run.metric)
    rows = f"{run.task}, {len(run.record.labels):,} test rows"
    test = TESTS[comparison.paired[0].test] if comparison.paired else ""
    return f"{metric} at a speed-up by layers ({rows})", f"Difference on the same rows, p by {test}"


def notes(comparison: Comparison) -> list[str]:
    """What a reader has to know, one sentence each."""
    found = ["Each threshold is the one that gives the speed on these rows, which needs no labels."]
    layers = [run.exit_layers for run in comparison.runs]
    deepest = max(each[-1] for each in layers)
    if any(each[-1] < deepest for each in layers):
        found.append(f"Speed-ups count against the deepest run's {deepest} layers.")
    if any((each[0], each[-1]) != (layers[0][0], deepest) for each in layers):
        found.append("Areas are over each run's own layers: compare them only between equal first and last exits.")
    if len(comparison.runs) > 1:
        found.append("over 1: mean difference to run 1's curve at the same FLOPs, as ELUE's score.")
    if comparison.paired:
        found.append("Interval and p are of these rows (not of other seeds), and of each test by itself.")
    return found


def print_comparison(comparison: Comparison, file: io.TextIOBase | None = None) -> None:
    """Tables for a person, on standard output or into a text file."""
    from rich.console import Console

    from mebert.report.layout import WIDTH_WITHOUT_TERMINAL, console, print_table, report_table

    out = console() if file is None else Console(file=file, width=WIDTH_WITHOUT_TERMINAL, highlight=False)  # type: ignore[arg-type]
    for title, (header, rows) in zip(titles(comparison), (run_rows(comparison), paired_rows(comparison)), strict=True):
        if rows:
            table = report_table(title)
            for column in header:
                table.add_column(column, justify="left" if column in ("recipe", "policy") else "right")
            for row in rows:
                table.add_row(*row)
            print_table(table, out, keys=2)
    for number, run in enumerate(comparison.runs):
        out.print(f"{number + 1}: {run.folder}", markup=False, soft_wrap=True)
    for note in notes(comparison):
        out.print(note, style="dim", markup=False, soft_wrap=True)


def exit_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of exits: the metric if all rows leave after a layer."""
    layers = sorted({layer for run in comparison.runs for layer in run.exit_layers})
    rows = []
    for number, run in enumerate(comparison.runs):
        at = {exit_["layer"]: exit_.get(run.metric) for exit_ in run.evaluation["exits"]}
        rows.append([str(number + 1), run.recipe, *(_number(at.get(layer)) for layer in layers)])
    return ["run", "recipe", *(f"layer {layer}" for layer in layers)], rows


def as_markdown(comparison: Comparison) -> str:
    """The tables, each exit's too, for a report or an issue."""
    parts = []
    at_speed, differences = titles(comparison)
    metric = METRIC_TITLES.get(comparison.runs[0].metric, comparison.runs[0].metric)
    tables = {
        at_speed: run_rows(comparison),
        f"{metric} of each exit alone": exit_rows(comparison),
        differences: paired_rows(comparison),
    }
    for title, (header, rows) in tables.items():
        if rows:
            parts += [f"**{title}**", _markdown_table(header, rows)]
    parts.append("\n".join(f"- run {n + 1}: `{run.folder}`" for n, run in enumerate(comparison.runs)))
    parts.append(" ".join(notes(comparison)))
    return "\n\n".join(parts) + "\n"


def as_csv(comparison: Comparison) -> str:
    """One line for each run and speed, numbers in full; the difference is to the first run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = ["run", "recipe", "task", "seed", "policy", "metric", "speedup", "value", "area", "over_first"]
    writer.writerow([*header, "difference", "low", "high", "p_value", "test"])
    tests = {(paired.run, paired.speedup): paired for paired in comparison.paired}
    for number, run in enumerate(comparison.runs):
        for speed, value in zip(comparison.speedups, comparison.metrics[number], strict=True):
            known = [run.folder, run.recipe, run.task, run.seed, run.policy, run.metric, f"{speed:g}", value, run.area]
            paired = tests.get((number, speed))
            test: list[object] = [None] * 5
            if paired is not None:
                ends = (paired.interval.low, paired.interval.high) if paired.interval else (None, None)
                test = [paired.value, *ends, paired.p_value, paired.test]
            writer.writerow([*known, comparison.over_first[number], *test])
    return out.getvalue()


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _p_value(paired: Paired) -> str:
    return "< 0.0001" if paired.p_value < 1e-4 else f"{paired.p_value:.4f}"
