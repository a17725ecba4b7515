"""What one line of a chart stands for: the runs of a recipe that differ in their seed alone.

Shapes: S seeds, X places on a line, E exits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mebert.commands.compare.band import Band, band_over
from mebert.commands.compare.run_view import Point, RunView
from mebert.commands.compare.settings import names_of, recipe_key
from mebert.commands.compare.task_groups import TaskGroup
from mebert.report.page.colours import Style, styles

__all__ = ["MarkedPoint", "SeedGroup", "Series", "lines_of"]

MOST_POINTS = 100
GRID = 60


@dataclass(frozen=True)
class MarkedPoint:
    """A chosen operating point, mean over seeds.

    Attributes:
        target: The speed-up by layers that it was chosen for.
        gflops: What a row costs.
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
    """A curve, mean over seeds, from cheap to dear.

    Attributes:
        gflops: (X,).
        metric: Mean and band, (X,).
        layers: Speed-up by layers, (X,).
        thresholds: The least and the largest over seeds, (X, 2).
        shares: Share of the rows that left at each exit, (X, E), or None.
    """

    gflops: np.ndarray
    metric: Band
    layers: np.ndarray
    thresholds: np.ndarray
    shares: np.ndarray | None


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in the seed alone.

    Attributes:
        name: What a reader calls it.
        style: How it is drawn.
        runs: One a seed.
    """

    name: str
    style: Style
    runs: list[RunView]

    @property
    def tested(self) -> list[RunView]:
        """Those of its runs that were tested."""
        return [run for run in self.runs if run.evaluation is not None]

    @property
    def exit_layers(self) -> list[int]:
        """The layer of each exit, (E,)."""
        return [exit_["layer"] for exit_ in self.tested[0].tested["exits"]]

    def at_exits(self, metric: str) -> Band:
        """The metric of each exit, (E,)."""
        return band_over([[exit_[metric] for exit_ in run.tested["exits"]] for run in self.tested])

    def series(self, choice: str) -> Series | None:
        """The curve of a policy; None where no run has one.

        One run is shown as it is, at most 100 points of it. Of several, all are read at the same costs, straight lines
        between their points, over the costs that all of them reach.
        """
        curves = [curve for run in self.tested if (curve := run.curve(choice))]
        if not curves:
            return None
        if len(curves) == 1:
            rows = np.unique(np.linspace(0, len(curves[0]) - 1, MOST_POINTS).round().astype(int))
            return _series([[curves[0][row] for row in rows]], None)
        low, high = max(c[0].gflops for c in curves), min(c[-1].gflops for c in curves)
        return _series(curves, np.linspace(low, max(low, high), GRID if high > low else 1))

    def marked(self, choice: str) -> list[MarkedPoint]:
        """The operating points that all of its runs have."""
        each = [{p.target: p for p in run.operating_points(choice)} for run in self.tested]
        if not each:
            return []
        found = []
        for target in each[0]:
            points = [of_run[target] for of_run in each if target in of_run]
            if target is None or len(points) < len(each):
                continue
            shares = [point.shares for point in points if point.shares is not None]
            whole = len(shares) == len(points)
            found.append(
                MarkedPoint(
                    target,
                    _mean(points, lambda p: p.gflops),
                    _mean(points, lambda p: p.metric),
                    _mean(points, lambda p: p.layers),
                    [point.threshold for point in points],
                    [float(s) for s in np.mean(shares, axis=0)] if whole else None,
                )
            )
        return found


def lines_of(blocks: Sequence[TaskGroup]) -> list[list[SeedGroup]]:
    """The lines of each block; lines of the same name look the same in all of them."""
    groups = [_groups(block.runs) for block in blocks]
    names = [_names(of_block) for of_block in groups]
    looks = styles(name for of_block in names for name in of_block)
    return [
        [SeedGroup(name, looks[name], runs) for name, runs in zip(of_names, of_block, strict=True)]
        for of_names, of_block in zip(names, groups, strict=True)
    ]


def _groups(runs: Sequence[RunView]) -> list[list[RunView]]:
    """Runs of equal settings but seeds; a seed that comes twice is no second seed, but opens a group of its own."""
    found: dict[tuple[object, int], list[RunView]] = {}
    for run in runs:
        key, again = recipe_key(run.settings), 0
        while any(_alike(run, other) for other in found.get((key, again), [])):
            again += 1
        found.setdefault((key, again), []).append(run)
    return list(found.values())


def _alike(run: RunView, other: RunView) -> bool:
    """Whether a run cannot stand beside another one as one more seed."""
    seeds = (run.settings.get(name) == other.settings.get(name) for name in ("seed_everything", "data.init_args.seed"))
    if all(seeds) or (run.evaluation is None) != (other.evaluation is None):
        return True
    if run.evaluation is None or other.evaluation is None:
        return False
    return [e["layer"] for e in run.tested["exits"]] != [e["layer"] for e in other.tested["exits"]]


def _names(groups: Sequence[Sequence[RunView]]) -> list[str]:
    first = [runs[0] for runs in groups]
    folders = ["/".join(run.folder.parts[-2:]) for run in first]
    return names_of([run.recipe for run in first], [run.settings for run in first], folders)


def _series(curves: Sequence[Sequence[Point]], grid: np.ndarray | None) -> Series:
    """Curves (from cheap to dear) at the same costs; None takes the only curve's own points."""

    def read(value: Callable[[Point], float]) -> np.ndarray:  # (S, X)
        if grid is None:
            return np.array([[value(point) for point in curve] for curve in curves])
        rows = [np.interp(grid, [p.gflops for p in curve], [value(p) for p in curve]) for curve in curves]
        return np.array(rows)

    with_shares = all(point.shares is not None for curve in curves for point in curve)
    exits = len(curves[0][0].shares or ()) if with_shares else 0
    shares = [read(lambda p, e=e: (p.shares or [])[e]).mean(0) for e in range(exits)]  # type: ignore[misc]
    thresholds = read(lambda p: min(p.threshold, 1e30))  # infinite at the fastest point
    return Series(
        np.array([point.gflops for point in curves[0]]) if grid is None else grid,
        band_over(list(read(lambda p: p.metric))),
        1 / read(lambda p: 1 / p.layers).mean(0),
        np.stack([thresholds.min(0), thresholds.max(0)], axis=1),
        np.stack(shares, axis=1) if shares else None,
    )


def _mean(points: Sequence[Point], value: Callable[[Point], float]) -> float:
    return float(np.mean([value(point) for point in points]))
