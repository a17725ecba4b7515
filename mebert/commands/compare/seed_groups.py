"""One line of a chart: the runs of a recipe that differ in their seed alone.

Shapes: S seeds, X places on a line, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mebert.commands.compare.band import Band, band_over
from mebert.commands.compare.run_view import CurveRow, RunView
from mebert.commands.compare.settings import names_of, recipe_key
from mebert.commands.compare.task_groups import TaskGroup
from mebert.report.page.colours import Style, styles

MOST_POINTS = 100  # of one run's curve
GRID = 60  # costs at which several runs' curves are read


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold from validation data, mean over seeds.

    Attributes:
        target: The speed-up by layers that it was chosen for.
        gflops: Mean cost of a row in 1e9 FLOPs.
        metric: The main metric.
        layers: Speed-up by layers.
        thresholds: Of each seed, (S,).
        shares: Share of the rows that left at each exit, (E,), or None.
    """

    target: float
    gflops: float
    metric: float
    layers: float
    thresholds: list[float]
    shares: list[float] | None


@dataclass(frozen=True)
class Series:
    """A curve, mean over seeds, by rising cost.

    Attributes:
        gflops: (X,).
        metric: Mean and band, (X,).
        layers: Speed-up by layers, (X,).
        thresholds: The smallest and the largest over seeds, (X, 2).
        shares: Share of the rows that left at each exit, (X, E), or None.
    """

    gflops: np.ndarray
    metric: Band
    layers: np.ndarray
    thresholds: np.ndarray
    shares: np.ndarray | None


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in their seed alone.

    Attributes:
        name: Shown in legends and tables.
        style: Colour, dash and marker.
        runs: One for each seed.
    """

    name: str
    style: Style
    runs: list[RunView]

    @property
    def tested(self) -> list[RunView]:
        """The runs that were tested."""
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
            gflops, metric, layers = (
                float(np.mean([getattr(row, name) for row in rows])) for name in ("gflops", "metric", "layers")
            )
            known = [row.shares for row in rows if row.shares is not None]
            shares = np.mean(known, axis=0).tolist() if len(known) == len(rows) else None
            found.append(OperatingPoint(target, gflops, metric, layers, [row.threshold for row in rows], shares))
        return found


def seed_groups(groups: Sequence[TaskGroup]) -> list[list[SeedGroup]]:
    """The seed groups of each task; groups of the same name look the same on all tasks."""
    runs = [_by_recipe(group.runs) for group in groups]
    names = [_names(of_task) for of_task in runs]
    looks = styles(name for of_task in names for name in of_task)
    return [
        [SeedGroup(name, looks[name], each) for name, each in zip(of_names, of_task, strict=True)]
        for of_names, of_task in zip(names, runs, strict=True)
    ]


def _by_recipe(runs: Sequence[RunView]) -> list[list[RunView]]:
    """Runs that share all settings but seeds; one with a seed that is already there opens a group of its own."""
    found: dict[tuple[object, int], list[RunView]] = {}
    for run in runs:
        key, again = recipe_key(run.settings), 0
        while any(not _joins(run, other) for other in found.get((key, again), [])):
            again += 1
        found.setdefault((key, again), []).append(run)
    return list(found.values())


def _joins(run: RunView, other: RunView) -> bool:
    """Whether a run of the same recipe counts as one more seed beside another one."""
    seeds = (run.settings.get(name) == other.settings.get(name) for name in ("seed_everything", "data.init_args.seed"))
    if all(seeds) or bool(run.evaluation) != bool(other.evaluation):
        return False
    return not run.evaluation or run.exit_layers == other.exit_layers


def _names(groups: Sequence[Sequence[RunView]]) -> list[str]:
    first = [runs[0] for runs in groups]
    folders = ["/".join(run.folder.parts[-2:]) for run in first]
    return names_of([run.recipe for run in first], [run.settings for run in first], folders)


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
    thresholds = read(lambda row: min(row.threshold, 1e30))  # infinite at the fastest point
    return Series(
        places,
        band_over(list(read(lambda row: row.metric))),
        1 / read(lambda row: 1 / row.layers).mean(0),
        np.stack([thresholds.min(0), thresholds.max(0)], axis=1),
        np.stack(shares, axis=1) if shares else None,
    )
