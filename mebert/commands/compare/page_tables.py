"""The tables of the page: runs, those that were not tested, settings, paired tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from mebert.commands.compare.output import notes, paired_rows, titles
from mebert.commands.compare.paired import Comparison
from mebert.commands.compare.seed_groups import SeedGroup
from mebert.commands.compare.settings import differences
from mebert.commands.compare.task_groups import TaskGroup
from mebert.commands.compare.training import last_validation
from mebert.report.page import Cell, Note, Part, Section, Table

__all__ = ["paired_section", "run_table", "settings_section", "untested_section"]


def run_table(block: TaskGroup, lines: Sequence[SeedGroup], comparison: Comparison | None) -> list[Part]:
    """What every tested run reaches.

    Args:
        block: The runs.
        lines: Of the block, for their names and colours.
        comparison: Of those with a recorded pass; None where none has one.
    """
    look = {run.number: line for line in lines for run in line.runs}
    compared = {} if comparison is None else {run.folder: at for at, run in enumerate(comparison.runs)}
    speeds = [] if comparison is None else list(comparison.speedups)
    layers = sorted({exit_["layer"] for run in block.shown for exit_ in run.tested["exits"]})
    several = comparison is not None and len(comparison.runs) > 1
    header = ["run", "line", "recipe", "task", "seed", "policy", "best exit", *(f"{s:g}x" for s in speeds), "area"]
    header += [*(["over 1"] if several else []), *(f"layer {layer}" for layer in layers), "folder"]
    rows: list[list[str | float | Cell | None]] = []
    for run in block.shown:
        line, metric = look[run.number], str(run.tested["metric"])
        at = {exit_["layer"]: float(exit_[metric]) for exit_ in run.tested["exits"]}
        place = compared.get(run.folder)
        values = [None] * len(speeds) if place is None or comparison is None else comparison.metrics[place]
        over = None if place is None or comparison is None else comparison.over_first[place]
        best = max(at, key=lambda layer: at[layer])
        rows.append(
            [
                run.number,
                Cell(line.name, colour=line.style.colour),
                run.recipe,
                run.task,
                run.seed,
                run.policy,
                Cell(f"{at[best]:.4f}", at[best], title=f"layer {best}"),
                *values,
                run.area,
                *([None if over is None else Cell(f"{over:+.4f}", over)] if several else []),
                *(at.get(layer) for layer in layers),
                Cell(str(run.folder), look="code"),
            ]
        )
    said = [] if comparison is None else notes(comparison)[1:]  # the first one is in the caption in other words
    if comparison is not None and comparison.paired:
        said.pop()  # stands at the paired tests
    words = [
        "A header sorts. 1x, 1.5x, ...: the metric at this speed-up by layers, with the threshold that gives this "
        "speed on these rows. Area: mean metric over all speeds. Layer: all rows leave there; best exit: the best of "
        "those.",
        *said,
    ]
    lost = [str(run.folder) for run in block.shown if run.folder not in compared]
    if lost:
        words.append(f"Without outputs.safetensors, so not compared row by row: {', '.join(lost)}; test again.")
    return [Table(header, rows, " ".join(words))]


def untested_section(block: TaskGroup, lines: Sequence[SeedGroup]) -> Section:
    """The last validation of runs that were not tested, and how to test one."""
    look = {run.number: line for line in lines for run in line.runs}
    logged = {run.number: last_validation(run) for run in block.untested}
    names = sorted(
        {name for of_run in logged.values() for name in of_run}, key=lambda name: (name != "val/score", name)
    )
    rows: list[list[str | float | Cell | None]] = [
        [
            run.number,
            Cell(look[run.number].name, colour=look[run.number].style.colour),
            run.seed,
            *(logged[run.number].get(name) for name in names),
            Cell(str(run.folder), look="code"),
        ]
        for run in block.untested
    ]
    first = shlex.quote(str(block.untested[0].folder / "config.yaml"))
    best = shlex.quote(str(block.untested[0].folder / "checkpoints" / "best.ckpt"))
    header = ["run", "line", "seed", *(_exit_title(name) for name in names), "folder"]
    return Section(
        "Not tested yet",
        [
            Table(
                header, rows, "The last validation, from metrics.csv: on validation data, so not comparable with tests."
            ),
            Note("To test one:", f"python -m mebert test --config {first} --ckpt_path {best}"),
        ],
    )


def settings_section(block: TaskGroup, lines: Sequence[SeedGroup]) -> Section:
    """Settings that are not the same in all runs, a column a run."""
    look = {run.number: line for line in lines for run in line.runs}
    found = differences([run.settings for run in block.runs])
    header = ["setting", *(f"{run.number}: {look[run.number].name}" for run in block.runs)]
    rows: list[list[str | float | Cell | None]] = [
        [
            Cell(name.replace(".init_args", ""), look="code"),
            *(Cell("-" if v is None else v, title=v or "") for v in each),
        ]
        for name, each in found.items()
    ]
    if not rows:
        return Section("Settings that differ", [Note("None: the runs have the same settings.")])
    words = "Settings that are the same in all runs are left out; a dash: the run does not have this one."
    return Section("Settings that differ", [Table(header, rows, words)])


def paired_section(block: TaskGroup, comparison: Comparison) -> Section:
    """The paired tests against the first run."""
    numbers = {run.folder: run.number for run in block.runs}
    header, texts = paired_rows(comparison, [numbers[run.folder] for run in comparison.runs])
    rows: list[list[str | float | Cell | None]] = []
    for paired, (runs, speed, difference, interval, p_value) in zip(comparison.paired, texts, strict=True):
        rest: list[str | float | Cell | None] = [
            Cell(difference, paired.value),
            interval,
            Cell(p_value, paired.p_value),
        ]
        rows.append([runs, Cell(speed, paired.speedup), *rest])
    words = f"{titles(comparison)[1]}. {notes(comparison)[-1]}"
    command = shlex.join(["python", "-m", "mebert", "compare", *(str(run.folder) for run in comparison.runs)])
    return Section(
        "Is the difference more than chance?", [Table(header, rows, words), Note("The same in a terminal:", command)]
    )


def _exit_title(name: str) -> str:
    """`val/exit_03/acc` as a header."""
    found = re.fullmatch(r"val/exit_(\d+)/(\w+)", name)
    return name.removeprefix("val/") if found is None else f"exit {int(found[1])} {found[2]}"
