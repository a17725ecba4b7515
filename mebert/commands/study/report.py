"""The report of a study: `report.md`, and for every task a CSV and a picture."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from scipy.stats import rankdata

from mebert.commands.study.results import AREA, Choice, Estimate, RecipeResult, TaskResult, read_results
from mebert.commands.study.settings import Study, cells_of
from mebert.commands.study.validation import METRIC, ranked_by_validation, validation_table
from mebert.errors import UserError
from mebert.report.layout import print_pairs
from mebert.report.plots import label_axes, metric_title, save_figure
from mebert.storage.atomic import write_rows, write_text
from mebert.storage.markdown import markdown_table

TITLES: dict[Choice, str] = {
    "own": "Each recipe with its own exit rule",
    "best": "Each recipe with the exit rule that was best on validation data",
}
RANKS = (
    "1 is the best; ties share the mean of their ranks. A column ranks the recipes that have a figure in it on every "
    "task, so that a column may have fewer recipes than another."
)
FIGURES = (
    "Figures are percent, means over the seeds. In brackets the 95 % bootstrap interval over test rows (questions, "
    "where answers are ranked), resampled for all seeds together; after ± the standard deviation over the seeds. "
    "`2x` is the metric at a speed-up of 2 by layers on the test rows, `area` the mean metric over all speeds "
    "(share of layers run, from all of them to those of the first exit)."
)
CSV_COLUMNS = ["task", "metric", "recipe", "layers", "choice", "policies", "at", *(f.name for f in fields(Estimate))]
MOST_NAMED = 12
LINE_STYLES = ("-", "--", ":")


def mean_ranks(tables: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Name to its mean rank over tasks, the best first; equal values get the mean of their ranks.

    A table has the values of one task by name. Only names with a value on every task are ranked.
    """
    names = [name for name in tables[0] if all(table.get(name) is not None for table in tables)] if tables else []
    # To nine digits: sums in another order are no difference.
    ranks = [rankdata([-round(table[name] or 0.0, 9) for name in names]) for table in tables]
    means = {name: float(sum(column)) / len(tables) for name, *column in zip(names, *ranks, strict=True)}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def write_report(study: Study, command: str) -> Path:
    """Write the report about the finished runs into the study's folder; returns the path of report.md."""
    cells = cells_of(study)
    results = read_results(cells, study.targets)
    if not results:
        raise UserError(f"no run of {study.out} is done, so there is nothing to report; first: {command}")
    done = [(cell, found) for cell in cells if (found := cell.done()) is not None]
    missing = [cell.name for cell in cells if cell.done() is None]
    missing[MOST_NAMED:] = [f"and {len(missing) - MOST_NAMED} more"] if len(missing) > MOST_NAMED else []
    seconds = sum(found.seconds for _, found in done)
    spent = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"
    blocks = [
        f"# Study {study.name}",
        f"{len(done)} of {len(cells)} runs: {len(study.recipes)} recipes, {len(study.tasks)} tasks, seeds "
        f"{', '.join(map(str, study.seeds))}; {spent} of runs in all.",
    ]
    if missing:
        blocks.append(f"**Not done: {', '.join(missing)}.** The figures are those of the other runs.")
    blocks.append(FIGURES)
    columns = [*(f"{target:g}x" for target in study.targets), AREA]
    if len(results) > 1:
        blocks += ["## Mean rank over tasks", RANKS, *(_rank_table(results, columns, choice) for choice in TITLES)]
    best: dict[str, str] = {}
    for result in results:
        _save_plot(result, study.out / f"{result.task}.png")
        _write_csv(result, columns, study.out / f"{result.task}.csv")
        blocks += _task_blocks(result, columns)
        ranked = ranked_by_validation(cells, result.task)
        blocks += validation_table(ranked)
        if len(ranked) > 1:
            recipe, value, cell = ranked[0]
            best[f"{result.task}: best by {METRIC}"] = f"{recipe} ({value:.4f}), {cell.runs()[-1]}"
    blocks += ["## Again", f"    {command} --report_only"]
    path = study.out / "report.md"
    write_text("\n\n".join(blocks) + "\n", path)
    print(f"Report: {path}")
    for what, which in best.items():
        print(f"{what}: {which}")
    same: dict[tuple[str, int], list[str]] = {}  # runs on the same task with the same seed
    for cell, found in done:
        same.setdefault((cell.task, cell.seed), []).append(str(found.run))
    pair = next((runs[:2] for runs in same.values() if len(runs) > 1), None)
    if pair is not None:
        print_pairs("Next:", {"test a difference": f"python -m mebert compare {shlex.join(pair)}"})
    return path


def _task_blocks(result: TaskResult, columns: Sequence[str]) -> list[str]:
    title = metric_title(result.metric)
    blocks = [f"## {result.task}", f"{title[0].upper()}{title[1:]} on {result.rows:,} test rows."]
    curves = [recipe for recipe in result.recipes if not recipe.single]
    singles = sorted((recipe for recipe in result.recipes if recipe.single), key=lambda one: one.layers)
    for choice, heading in TITLES.items():
        if curves:
            blocks += [f"{heading}:", _figure_table(curves, singles, columns, choice)]
    if singles:
        rows = [[r.recipe, str(r.layers), f"{r.slowest:.3g}x", _figure(r.figures["own"].full)] for r in singles]
        bound = markdown_table(["recipe", "layers", "speed-up", "figure"], rows)
        blocks += ["The bound, one exit alone after the first layers of the encoder:", bound]
    return [*blocks, f"![{result.task}]({result.task}.png)"]


def _figure_table(
    recipes: Sequence[RecipeResult], singles: Sequence[RecipeResult], columns: Sequence[str], choice: Choice
) -> str:
    means = {column: [_mean(recipe, choice, column) for recipe in recipes] for column in columns}
    best = {column: max((m for m in means[column] if m is not None), default=None) for column in columns}
    rows = []
    for recipe in recipes:
        figures = recipe.figures[choice]
        rules = " / ".join(dict.fromkeys(figures.policies))
        rows.append([recipe.recipe, rules, *(_figure(figures.at[c], best[c]) for c in columns)])
    bound = [next((e for r in singles if (e := r.figures[choice].at[column])), None) for column in columns]
    if any(bound):
        rows.append(["*first layers alone*", "-", *map(_figure, bound)])
    return markdown_table(["recipe", "exit rule", *columns], rows)


def _figure(found: Estimate | None, best: float | None = None) -> str:
    if found is None or math.isnan(found.mean):
        return "-"
    bold = "**" if found.mean == best else ""
    text = f"{bold}{100 * found.mean:.1f}{bold}"
    if found.low is not None and found.high is not None:
        text += f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    return text if found.deviation is None else f"{text} ±{100 * found.deviation:.1f}"


def _rank_table(results: Sequence[TaskResult], columns: Sequence[str], choice: Choice) -> str:
    found = {
        column: mean_ranks([{r.recipe: _mean(r, choice, column) for r in result.recipes} for result in results])
        for column in columns
    }
    names = dict.fromkeys(name for column in reversed(columns) for name in found[column])
    rows = [[name, *(f"{found[c][name]:.1f}" if name in found[c] else "-" for c in columns)] for name in names]
    return f"{TITLES[choice]}:\n\n" + markdown_table(["recipe", *columns], rows)


def _mean(recipe: RecipeResult, choice: Choice, column: str) -> float | None:
    found = recipe.figures[choice].at[column]
    return None if found is None or math.isnan(found.mean) else found.mean


def _write_csv(result: TaskResult, columns: Sequence[str], path: Path) -> None:
    rows: list[list[object]] = [list(CSV_COLUMNS)]
    for recipe in result.recipes:
        for choice, figures in recipe.figures.items():
            at = {f"{recipe.slowest:g}x": figures.full} if recipe.single else {c: figures.at[c] for c in columns}
            policies = " ".join(dict.fromkeys(figures.policies))
            start = [result.task, result.metric, recipe.recipe, recipe.layers, choice, policies]
            rows += [[*start, column, *(() if found is None else astuple(found))] for column, found in at.items()]
    write_rows(rows, path)


def _save_plot(result: TaskResult, path: Path) -> None:
    """A PNG: metric against speed-up of every recipe with its best policy, mean over seeds; single exits as markers."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for number, recipe in enumerate(recipe for recipe in result.recipes if not recipe.single):
        style, colour = LINE_STYLES[number // len(colours) % len(LINE_STYLES)], colours[number % len(colours)]
        points = zip(*recipe.figures["best"].curve, strict=True)
        axes.plot(*points, style, color=colour, lw=1.6, label=recipe.recipe, zorder=3)
    label = "one exit alone"
    for recipe in (recipe for recipe in result.recipes if recipe.single):
        at = recipe.figures["best"].curve[0]
        axes.plot(*at, "kD", ms=6, zorder=4, label=label)
        axes.annotate(recipe.recipe, at, xytext=(5, 5), textcoords="offset points", fontsize=8)
        label = "_once"  # an underscore: no second entry of the legend
    fastest = max(x for recipe in result.recipes for x, _ in recipe.figures["best"].curve)
    title = f"{result.task}: each recipe with its best policy, {result.rows:,} test rows"
    label_axes(axes, fastest, result.metric, title)
    figure.legend(fontsize=8, loc="outside lower center", ncols=5)
    save_figure(figure, path)
