"""The report of a study: `report.md`, and for every task a CSV and a picture."""

from __future__ import annotations

import csv
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mebert.commands.study.cell import CellFolder
from mebert.commands.study.grid import Cell, cells_of
from mebert.commands.study.intervals import Estimate
from mebert.commands.study.plots import save_task_plot
from mebert.commands.study.results import AREA, Choice, RecipeResult, TaskResult, read_results
from mebert.commands.study.settings import Study
from mebert.errors import UserError
from mebert.report.plots import METRIC_TITLES
from mebert.report.tables import print_pairs

__all__ = ["mean_ranks", "write_report"]


def mean_ranks(tables: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Name to its mean rank over tasks, the best first.

    Args:
        tables: For each task, name to value. Only names with a value on every task are ranked, and only among
            themselves, so that every rank is one of equally many.
    """
    from scipy.stats import rankdata  # a second of imports

    names = [name for name in tables[0] if all(table.get(name) is not None for table in tables)] if tables else []
    # To nine digits, so that sums in another order are equal.
    ranks = np.mean([rankdata([-round(table[name] or 0.0, 9) for name in names]) for table in tables], axis=0)
    return dict(sorted(zip(names, ranks.tolist(), strict=True), key=lambda item: item[1]))


TITLES: dict[Choice, str] = {
    "own": "Each recipe with its own exit rule",
    "best": "Each recipe with the exit rule that was best on validation data",
}

CSV_COLUMNS = ["task", "metric", "recipe", "layers", "choice", "policies", "at"]

CSV_COLUMNS += ["mean", "low", "high", "deviation", "seeds"]

MOST_NAMED = 12

BOUND = "*first layers alone*"


def write_report(study: Study, command: str) -> Path:
    """Write the report about what is done into the study's folder; returns the path of report.md.

    Args:
        study: The study.
        command: What was typed, without options that choose what to do.

    Raises:
        UserError: Nothing is done yet.
    """
    cells = cells_of(study)
    results = read_results(cells, study.targets)
    if not results:
        raise UserError(f"no run of {study.out} is done, so there is nothing to report; first: {command}")
    columns = [*(f"{target:g}x" for target in study.targets), AREA]
    blocks = [_opening(study, cells)]
    if len(results) > 1:
        blocks += ["## Mean rank over tasks", _RANKS, *(_rank_table(results, columns, choice) for choice in TITLES)]
    for result in results:
        save_task_plot(result, study.out / f"{result.task}.png")
        _write_csv(result, columns, study.out / f"{result.task}.csv")
        blocks += _task_blocks(result, columns)
    blocks += ["## Again", f"    {command} --report_only"]
    path = study.out / "report.md"
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    print(f"Report: {path}")
    pair = _comparable(cells)
    if pair:
        print_pairs("Next:", {"test a difference": f"python -m mebert compare {shlex.join(map(str, pair))}"})
    return path


_RANKS = (
    "1 is the best; ties share the mean of their ranks. A column ranks the recipes that have a figure in it on every "
    "task, so that a column may have fewer recipes than another."
)


def _opening(study: Study, cells: Sequence[Cell]) -> str:
    done = [found for cell in cells if (found := CellFolder(cell).done()) is not None]
    missing = [cell.name for cell in cells if CellFolder(cell).done() is None]
    if len(missing) > MOST_NAMED:
        missing[MOST_NAMED:] = [f"and {len(missing) - MOST_NAMED} more"]
    seconds = sum(found.seconds for found in done)
    spent = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
    lines = [
        f"# Study {study.name}",
        "",
        f"{len(done)} of {len(cells)} runs: {len(study.recipes)} recipes, {len(study.tasks)} tasks, seeds "
        f"{', '.join(map(str, study.seeds))}; {spent} of runs in all.",
    ]
    if missing:
        lines += ["", f"**Not done: {', '.join(missing)}.** The figures are those of the other runs."]
    lines += [
        "",
        "Figures are percent, means over the seeds. In brackets the 95 % bootstrap interval over test rows (questions, "
        "where answers are ranked), resampled for all seeds together; after ± the standard deviation over the seeds. "
        "`2x` is the metric at a speed-up of 2 by layers on the test rows, `area` the mean metric over all speeds "
        "(share of layers run, from all of them to those of the first exit).",
    ]
    return "\n".join(lines)


def _comparable(cells: Sequence[Cell]) -> list[Path]:
    """The runs of two recipes on the same task with the same seed; empty where there are none yet."""
    found: dict[tuple[str, int], list[Path]] = {}
    for cell in cells:
        done = CellFolder(cell).done()
        if done is not None:
            found.setdefault((cell.task, cell.seed), []).append(done.run)
    return next((runs[:2] for runs in found.values() if len(runs) > 1), [])


def _task_blocks(result: TaskResult, columns: Sequence[str]) -> list[str]:
    title = METRIC_TITLES.get(result.metric, result.metric)
    blocks = [f"## {result.task}", f"{title[0].upper()}{title[1:]} on {result.rows:,} test rows."]
    curves = [recipe for recipe in result.recipes if not recipe.single]
    singles = [recipe for recipe in result.recipes if recipe.single]
    for choice, heading in TITLES.items():
        if curves:
            blocks += [f"{heading}:", _figure_table(curves, singles, columns, choice)]
    if singles:
        blocks += ["The bound, one exit alone after the first layers of the encoder:", _single_table(singles)]
    blocks.append(f"![{result.task}]({result.task}.png)")
    return blocks


def _figure_table(
    recipes: Sequence[RecipeResult], singles: Sequence[RecipeResult], columns: Sequence[str], choice: Choice
) -> str:
    best = {}
    for column in columns:
        found = [_mean(recipe.figures[choice].at[column]) for recipe in recipes]
        best[column] = max((mean for mean in found if mean is not None), default=None)
    rows = []
    for recipe in recipes:
        figures = recipe.figures[choice]
        cells = [_figure(figures.at[column], best[column]) for column in columns]
        rows.append([recipe.recipe, " / ".join(dict.fromkeys(figures.policies)), *cells])
    alone = {column: next((e for r in singles if (e := r.figures[choice].at[column])), None) for column in columns}
    if any(alone.values()):
        rows.append([BOUND, "-", *(_figure(alone[column], None) for column in columns)])
    return _table(["recipe", "exit rule", *columns], rows)


def _single_table(recipes: Sequence[RecipeResult]) -> str:
    rows = []
    for recipe in sorted(recipes, key=lambda one: one.layers):
        at = recipe.figures["own"].alone
        rows.append([recipe.recipe, str(recipe.layers), f"{recipe.slowest:.3g}x", _figure(at, None)])
    return _table(["recipe", "layers", "speed-up", "figure"], rows)


def _figure(found: Estimate | None, best: float | None) -> str:
    if found is None or math.isnan(found.mean):
        return "-"
    mean = f"{100 * found.mean:.1f}"
    text = f"**{mean}**" if found.mean == best else mean
    if found.low is not None and found.high is not None:
        text += f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    return text if found.deviation is None else f"{text} ±{100 * found.deviation:.1f}"


def _rank_table(results: Sequence[TaskResult], columns: Sequence[str], choice: Choice) -> str:
    found = {}
    for column in columns:
        tables = [{r.recipe: _mean(r.figures[choice].at[column]) for r in result.recipes} for result in results]
        found[column] = mean_ranks(tables)
    names = dict.fromkeys(name for column in reversed(columns) for name in found[column])
    rows = [[name, *(f"{found[c][name]:.1f}" if name in found[c] else "-" for c in columns)] for name in names]
    return f"{TITLES[choice]}:\n\n" + _table(["recipe", *columns], rows)


def _mean(found: Estimate | None) -> float | None:
    return None if found is None or math.isnan(found.mean) else found.mean


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write_csv(result: TaskResult, columns: Sequence[str], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for recipe in result.recipes:
            for choice, figures in recipe.figures.items():
                at = {f"{recipe.slowest:g}x": figures.alone} if recipe.single else {c: figures.at[c] for c in columns}
                for column, found in at.items():
                    start = [result.task, result.metric, recipe.recipe, recipe.layers, choice]
                    policies = " ".join(dict.fromkeys(figures.policies))
                    values = [] if found is None else [found.mean, found.low, found.high, found.deviation, found.seeds]
                    writer.writerow([*start, policies, column, *values])
