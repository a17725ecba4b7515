"""Runs in groups: those that can be compared with one another, and among them those that differ in their seed alone.

Shapes: S seeds, X places on a line, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mebert.commands.compare.band import Band, band_over
from mebert.commands.compare.paired import mismatch
from mebert.commands.compare.run_view import CurveRow, RunView
from mebert.commands.compare.settings import names_of, recipe_settings
from mebert.report.page.colours import Style, styles
from mebert.storage.thresholds import numbers_of

MOST_POINTS = 100  # of one run's curve
GRID = 60  # costs at which several runs' curves are read


@dataclass
class TaskGroup:
    """Runs of one task, tested on the same rows, in the order given; those without a test included."""

    task: str
    runs: list[RunView]

    @property
    def tested(self) -> list[RunView]:
        return [run for run in self.runs if run.evaluation]

    @property
    def untested(self) -> list[RunView]:
        return [run for run in self.runs if not run.evaluation]


def task_groups(runs: Sequence[RunView]) -> list[TaskGroup]:
    """Group runs that can be compared; a run without a test joins the first group of its task."""
    groups: list[TaskGroup] = []
    for run in sorted(runs, key=lambda one: not one.evaluation):  # stable: tested runs first
        home = next((group for group in groups if _belongs(run, group)), None)
        if home is None:
            groups.append(home := TaskGroup(run.task, []))
        home.runs.append(run)
    for group in groups:
        group.runs.sort(key=lambda one: one.number)
    return sorted(groups, key=lambda group: group.runs[0].number)


def _belongs(run: RunView, group: TaskGroup) -> bool:
    first = group.runs[0]
    if run.task != first.task or not run.evaluation or not first.evaluation:
        return run.task == first.task
    if any(run.evaluation.get(key) != first.evaluation.get(key) for key in ("metric", "samples")):
        return False
    recorded = next((one for one in group.runs if one.record is not None), None)
    return recorded is None or run.record is None or mismatch(recorded, run) is None


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold from validation data, mean over seeds; fields as `CurveRow`."""

    target: float
    gflops: float
    metric: float
    layers: float
    thresholds: list[float]  # of all seeds and, where each has its own, exits
    shares: list[float] | None  # of the rows that left at each exit, (E,)


@dataclass(frozen=True)
class Series:
    """A curve, mean over seeds, by rising cost."""

    gflops: np.ndarray  # (X,)
    metric: Band  # (X,)
    layers: np.ndarray  # speed-up by layers, (X,)
    thresholds: np.ndarray  # the smallest and the largest over seeds, (X, 2)
    shares: np.ndarray | None  # of the rows that left at each exit, (X, E)


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in their seed alone."""

    name: str  # shown in legends and tables
    style: Style
    runs: list[RunView]

    @property
    def tested(self) -> list[RunView]:
        return [run for run in self.runs if run.evaluation]

    @property
    def exit_layers(self) -> list[int]:
        """The layer of each exit, (E,)."""
        return self.tested[0].exit_layers

    def at_exits(self, metric: str) -> Band:
        """The metric if all rows leave at an exit, (E,)."""
        return band_over([[row[metric] for row in run.evaluation["exits"]] for run in self.tested])

    def series(self, choice: str) -> Series | None:
        """The curve of a policy; None where no run has one.

        One run is shown as it is, at most 100 points of it. The curves of several are interpolated linearly at the same
        costs, those that all of them reach.
        """
        curves = [curve for run in self.tested if (curve := run.curve(choice))]
        if not curves:
            return None
        if len(curves) == 1:
            rows = np.unique(np.linspace(0, len(curves[0]) - 1, MOST_POINTS).round().astype(int))
            return _series([[curves[0][row] for row in rows]], None)
        low, high = max(c[0].gflops for c in curves), min(c[-1].gflops for c in curves)
        return _series(curves, np.linspace(low, max(low, high), GRID if high > low else 1))

    def operating_points(self, choice: str) -> list[OperatingPoint]:
        """The operating points that all of its runs have."""
        each = [{row.target: row for row in run.operating_points(choice)} for run in self.tested]
        found = []
        for target in each[0] if each else ():
            rows = [of_run[target] for of_run in each if target in of_run]
            if target is None or len(rows) < len(each):
                continue
            gflops, metric, layers = np.mean([[row.gflops, row.metric, row.layers] for row in rows], axis=0).tolist()
            known = [row.shares for row in rows if row.shares is not None]
            shares = np.mean(known, axis=0).tolist() if len(known) == len(rows) else None
            found.append(
                OperatingPoint(
                    target, gflops, metric, layers, [n for row in rows for n in numbers_of(row.threshold)], shares
                )
            )
        return found


def seed_groups(groups: Sequence[TaskGroup]) -> list[list[SeedGroup]]:
    """The seed groups of each task; groups of the same name look the same on all tasks."""
    runs = [_by_recipe(group.runs) for group in groups]
    names = []
    for of_task in runs:
        first = [of_recipe[0] for of_recipe in of_task]
        folders = ["/".join(run.folder.parts[-2:]) for run in first]
        names.append(names_of([run.recipe for run in first], [run.settings for run in first], folders))
    looks = styles(name for of_task in names for name in of_task)
    return [
        [SeedGroup(name, looks[name], each) for name, each in zip(of_names, of_task, strict=True)]
        for of_names, of_task in zip(names, runs, strict=True)
    ]


def _by_recipe(runs: Sequence[RunView]) -> list[list[RunView]]:
    """Runs that share all settings but seeds; one with a seed that is already there opens a group of its own."""
    found: list[list[RunView]] = []
    for run in runs:
        home = next((group for group in found if all(_joins(run, other) for other in group)), None)
        if home is None:
            found.append(home := [])
        home.append(run)
    return found


def _joins(run: RunView, other: RunView) -> bool:
    """Whether a run counts as one more seed beside another one."""
    if recipe_settings(run.settings) != recipe_settings(other.settings):
        return False
    seeds = (run.settings.get(name) == other.settings.get(name) for name in ("seed_everything", "data.init_args.seed"))
    if all(seeds) or bool(run.evaluation) != bool(other.evaluation):
        return False
    return not run.evaluation or run.exit_layers == other.exit_layers


def _series(curves: Sequence[Sequence[CurveRow]], grid: np.ndarray | None) -> Series:
    """Curves (by rising cost) at the same costs; None takes the only curve's own points."""
    costs = [np.array([row.gflops for row in curve]) for curve in curves]
    places = costs[0] if grid is None else grid

    def read(value: Callable[[CurveRow], float]) -> np.ndarray:  # (S, X)
        found = [np.array([value(row) for row in curve]) for curve in curves]
        if grid is None:
            return np.array(found)
        return np.array([np.interp(grid, cost, values) for cost, values in zip(costs, found, strict=True)])

    exits = min(len(row.shares or ()) for curve in curves for row in curve)  # 0 where shares are unknown
    shares = [read(lambda row, e=e: (row.shares or [])[e]).mean(0) for e in range(exits)]  # type: ignore[misc]
    thresholds = read(lambda row: min(*numbers_of(row.threshold), 1e30))  # infinite at the fastest point
    return Series(
        places,
        band_over(list(read(lambda row: row.metric))),
        1 / read(lambda row: 1 / row.layers).mean(0),
        np.stack([thresholds.min(0), thresholds.max(0)], axis=1),
        np.stack(shares, axis=1) if shares else None,
    )
