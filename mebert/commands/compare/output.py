"""A comparison as text, Markdown or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from mebert.choices import CompareFormat
from mebert.commands.compare.paired import Comparison
from mebert.errors import UserError
from mebert.report.layout import console, print_table, report_table
from mebert.report.plots import metric_title
from mebert.storage.markdown import markdown_table

SUFFIXES: dict[str, CompareFormat] = {".md": "md", ".csv": "csv", ".txt": "text", ".html": "html", ".htm": "html"}
SUFFIXES |= {".png": "png", ".pdf": "png", ".svg": "png"}
TESTS = {"mcnemar": "McNemar's exact test", "bootstrap": "paired bootstrap"}
CSV_COLUMNS = ["run", "recipe", "task", "seed", "policy", "metric", "speedup", "value", "area", "over_first"]
CSV_COLUMNS += ["difference", "low", "high", "p_value", "test"]

Rows = tuple[list[str], list[list[str]]]  # header and rows of a table


def format_of(given: CompareFormat | None, out: Path | None) -> CompareFormat:
    """The format that was given, else that of the file's suffix, else text; a picture or a page needs a file."""
    if given in ("png", "html") and out is None:
        raise UserError(f"format {given} needs a file: --out report.{given}")
    if given is not None or out is None:
        return given or "text"
    if out.suffix not in SUFFIXES:
        raise UserError(f"out {out}: give a name that ends in {', '.join(SUFFIXES)}, or give --format")
    return SUFFIXES[out.suffix]


def run_rows(comparison: Comparison) -> Rows:
    """The table of runs: the metric of each at each speed."""
    several = len(comparison.runs) > 1
    header = ["run", "recipe", "policy", "seed", *(f"{speed:g}x" for speed in comparison.speedups), "area"]
    rows = []
    for number, run in enumerate(comparison.runs):
        seed = "" if run.seed is None else str(run.seed)
        values = [_number(value) for value in (*comparison.metrics[number], run.area)]
        over = [_number(comparison.over_first[number], "+.4f")] if several else []
        rows.append([str(number + 1), run.recipe, run.policy, seed, *values, *over])
    return header + (["over 1"] if several else []), rows


def paired_rows(comparison: Comparison, numbers: Sequence[int] = ()) -> Rows:
    """The table of paired tests; `numbers` are those of the runs in the table, from 1 if empty."""
    numbers = numbers or range(1, len(comparison.runs) + 1)
    rows = []
    for paired in comparison.paired:
        interval = "" if paired.interval is None else f"{paired.interval.low:+.4f} to {paired.interval.high:+.4f}"
        p_value = "< 0.0001" if paired.p_value < 1e-4 else f"{paired.p_value:.4f}"
        runs, speed = f"{numbers[paired.run]} - {numbers[0]}", f"{paired.speedup:g}x"
        rows.append([runs, speed, f"{paired.value:+.4f}", interval, p_value])
    return ["runs", "speed-up", "difference", "95 % interval", "p"], rows


def exit_rows(comparison: Comparison) -> Rows:
    """The table of exits: the metric if all rows leave after a layer."""
    layers = sorted({layer for run in comparison.runs for layer in run.exit_layers})
    rows = []
    for number, run in enumerate(comparison.runs, start=1):
        at = {row["layer"]: row.get(run.metric) for row in run.evaluation["exits"]}
        rows.append([str(number), run.recipe, *(_number(at.get(layer)) for layer in layers)])
    return ["run", "recipe", *(f"layer {layer}" for layer in layers)], rows


def titles(comparison: Comparison) -> tuple[str, str]:
    """The titles of the tables of runs and of paired tests."""
    run = comparison.runs[0]
    rows = f"{run.task}, {len(run.outputs.labels):,} test rows"
    test = TESTS[comparison.paired[0].test] if comparison.paired else ""
    return f"{metric_title(run.metric)} at a speed-up by layers ({rows})", f"Difference on the same rows, p by {test}"


def notes(comparison: Comparison) -> list[str]:
    """How to read the tables, in sentences."""
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


def print_comparison(comparison: Comparison, file: IO[str]) -> None:
    """Print the tables into a file, such as standard output."""
    out = console(file)
    for title, (header, rows) in zip(titles(comparison), (run_rows(comparison), paired_rows(comparison)), strict=True):
        if rows:
            table = report_table(title)
            for column in header:
                table.add_column(column, justify="left" if column in ("recipe", "policy") else "right")
            for row in rows:
                table.add_row(*row)
            print_table(table, out, keys=2)
    for number, run in enumerate(comparison.runs, start=1):
        out.print(f"{number}: {run.folder}", soft_wrap=True)
    for note in notes(comparison):
        out.print(note, style="dim", soft_wrap=True)


def as_markdown(comparison: Comparison) -> str:
    """All tables, that of exits included, for a report or an issue."""
    at_speed, differences = titles(comparison)
    metric = metric_title(comparison.runs[0].metric)
    tables = {
        at_speed: run_rows(comparison),
        f"{metric} of each exit alone": exit_rows(comparison),
        differences: paired_rows(comparison),
    }
    parts = [f"**{title}**\n\n{markdown_table(header, rows)}" for title, (header, rows) in tables.items() if rows]
    folders = "\n".join(f"- run {n}: `{run.folder}`" for n, run in enumerate(comparison.runs, start=1))
    return "\n\n".join([*parts, folders, " ".join(notes(comparison))]) + "\n"


def as_csv(comparison: Comparison) -> str:
    """One line for each run and speed with full precision; differences are to the first run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    tests = {(paired.run, paired.speedup): paired for paired in comparison.paired}
    for number, run in enumerate(comparison.runs):
        for speed, value in zip(comparison.speedups, comparison.metrics[number], strict=True):
            known = [run.folder, run.recipe, run.task, run.seed, run.policy, run.metric, f"{speed:g}", value, run.area]
            test: list[object] = [None] * 5
            if paired := tests.get((number, speed)):
                ends = (paired.interval.low, paired.interval.high) if paired.interval else (None, None)
                test = [paired.value, *ends, paired.p_value, paired.test]
            writer.writerow([*known, comparison.over_first[number], *test])
    return out.getvalue()


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)
