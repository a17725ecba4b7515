"""The tables of the page: runs, those without a test, settings, paired tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from mebert.commands.compare.output import notes, paired_rows, titles
from mebert.commands.compare.paired import Comparison
from mebert.commands.compare.seed_groups import SeedGroup, TaskGroup
from mebert.commands.compare.settings import differences
from mebert.commands.compare.training import last_validation
from mebert.metrics.task import score_to_choose
from mebert.report.page import Cell, Note, Part, Section, Table

Row = list[str | float | Cell | None]


def run_table(group: TaskGroup, lines: Sequence[SeedGroup], comparison: Comparison | None) -> list[Part]:
    """The table of tested runs; `comparison` is of those with outputs, None where none has any."""
    compared = [] if comparison is None else [run.number for run in comparison.runs]
    speeds = [] if comparison is None else list(comparison.speedups)
    layers = sorted({layer for run in group.tested for layer in run.exit_layers})
    rows = []
    for run in group.tested:
        at = {row["layer"]: float(row[run.metric]) for row in run.evaluation["exits"]}
        best = max(at, key=lambda layer: score_to_choose(at[layer]))
        row: dict[str, str | float | Cell | None] = {"run": run.number, "line": _line_cell(lines, run.number)}
        row |= {"recipe": run.recipe, "task": run.task, "seed": run.seed, "policy": run.policy}
        row["best exit"] = Cell(f"{at[best]:.4f}", at[best], title=f"layer {best}")
        values: Sequence[float | None] = [None] * len(speeds)
        over = None
        if comparison is not None and run.number in compared:
            place = compared.index(run.number)
            values, over = comparison.metrics[place], comparison.over_first[place]
        row |= {f"{speed:g}x": value for speed, value in zip(speeds, values, strict=True)} | {"area": run.area}
        if len(compared) > 1:
            row["over 1"] = None if over is None else Cell(f"{over:+.4f}", over)
        row |= {f"layer {layer}": at.get(layer) for layer in layers}
        rows.append(row | {"folder": Cell(str(run.folder), look="code")})
    # The first note is in the caption in other words, the last one stands at the paired tests.
    read = [] if comparison is None else notes(comparison)[1 : -1 if comparison.paired else None]
    words = [
        "A header sorts. 1x, 1.5x, ...: the metric at this speed-up by layers, with the threshold that gives this "
        "speed on these rows. Area: mean metric over all speeds. Layer: all rows leave there; best exit: the best of "
        "those.",
        *read,
    ]
    lost = [str(run.folder) for run in group.tested if run.number not in compared]
    if lost:
        words.append(f"Without outputs.safetensors, so not compared row by row: {', '.join(lost)}; test again.")
    return [Table(list(rows[0]), [list(row.values()) for row in rows], " ".join(words))]


def untested_section(group: TaskGroup, lines: Sequence[SeedGroup]) -> Section:
    """The last validation of runs without a test, and the command that tests one."""
    logged = {run.number: last_validation(run) for run in group.untested}
    names = sorted({name for one in logged.values() for name in one}, key=lambda name: (name != "val/score", name))
    rows: list[Row] = []
    for run in group.untested:
        values = [logged[run.number].get(name) for name in names]
        folder = Cell(str(run.folder), look="code")
        rows.append([run.number, _line_cell(lines, run.number), run.seed, *values, folder])
    header = ["run", "line", "seed", *(_exit_title(name) for name in names), "folder"]
    words = "The last validation, from metrics.csv: on validation data, so not comparable with tests."
    test = Note("To test one:", group.untested[0].test_command)
    return Section("Not tested yet", [Table(header, rows, words), test])


def settings_section(group: TaskGroup, lines: Sequence[SeedGroup]) -> Section:
    """Settings that are not the same in all runs, one column for each run."""
    header = ["setting", *(f"{run.number}: {_line_cell(lines, run.number).text}" for run in group.runs)]
    rows: list[Row] = [
        [Cell(name.replace(".init_args", ""), look="code"), *(Cell(v or "-", title=v or "") for v in values)]
        for name, values in differences([run.settings for run in group.runs]).items()
    ]
    words = "Settings that are the same in all runs are left out; a dash: the run does not have this one."
    same = Note("None: the runs have the same settings.")
    return Section("Settings that differ", [Table(header, rows, words) if rows else same])


def paired_section(comparison: Comparison) -> Section:
    """The paired tests against the first run."""
    header, texts = paired_rows(comparison, [run.number for run in comparison.runs])
    rows: list[Row] = []
    for paired, (runs, speed, value, interval, p) in zip(comparison.paired, texts, strict=True):
        cells = Cell(speed, paired.speedup), Cell(value, paired.value), interval, Cell(p, paired.p_value)
        rows.append([runs, *cells])
    words = f"{titles(comparison)[1]}. {notes(comparison)[-1]}"
    command = shlex.join(["python", "-m", "mebert", "compare", *(str(run.folder) for run in comparison.runs)])
    again = Note("The same in a terminal:", command)
    return Section("Is the difference more than chance?", [Table(header, rows, words), again])


def _line_cell(lines: Sequence[SeedGroup], number: int) -> Cell:
    """The name and the colour of a run's line."""
    line = next(line for line in lines for run in line.runs if run.number == number)
    return Cell(line.name, colour=line.style.colour)


def _exit_title(name: str) -> str:
    """`val/exit_03/acc` as a header."""
    found = re.fullmatch(r"val/exit_(\d+)/(\w+)", name)
    return name.removeprefix("val/") if found is None else f"exit {int(found[1])} {found[2]}"
