"""Figures of the finished runs: for every task and recipe the metric at several speed-ups, the area and the curve.

The intervals say what another draw of test rows would change: rows are resampled once for all seeds, and a figure is
averaged over the seeds in each resample. The standard deviation says what another seed would change. Speed-ups count
against the deepest recipe of the task: the first k of L layers alone are a point at L / k.

Shapes: E exits, N rows, C classes, R resamples.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mebert.commands.study.cell import Cell, Done
from mebert.metrics.at_speed import bracket_speedup
from mebert.metrics.bootstrap import bootstrap_values, percentiles
from mebert.metrics.curve import CurvePoint, ExitRecord, fixed_exit_points, sweep
from mebert.metrics.record_files import load_record
from mebert.metrics.task import metric_value
from mebert.metrics.weighted import mean_of, unit_values, weighted_metric
from mebert.storage.run_folder import RunFolder

AREA = "area"
Choice = Literal["own", "best"]
CURVE_POINTS = 60  # as evaluation.json's areas

# Exits taken (N,) and the weight of the metric there: one point of a curve, or the trapezoids under it.
Mixture = Sequence[tuple[Tensor, float]]


@dataclass(frozen=True)
class Estimate:
    """The mean over some seeds, its 95 % interval over test rows, the standard deviation over more than one seed."""

    mean: float
    low: float | None
    high: float | None
    deviation: float | None
    seeds: int


@dataclass
class PolicyFigures:
    """A recipe on a task with its own policy, or with the one that was best on validation data."""

    policies: list[str]  # of each seed
    full: Estimate  # at the last exit
    at: dict[str, Estimate | None]  # by column (a speed-up such as `1.5x`, or `area`); None where it is not attained
    curve: list[tuple[float, float]]  # (speed-up, metric) from slow to fast, mean over seeds


@dataclass
class RecipeResult:
    """A recipe on a task."""

    recipe: str
    layers: int  # of the deepest exit
    slowest: float  # speed-up without leaving early, 1 for a recipe with all layers
    single: bool  # one exit only: a point, no curve
    figures: dict[Choice, PolicyFigures]


@dataclass
class TaskResult:
    """All recipes with a finished run on a task, in the study's order; `rows` is the number of test rows."""

    task: str
    metric: str
    rows: int
    recipes: list[RecipeResult] = field(default_factory=list)


@dataclass
class _Run:
    record: ExitRecord
    evaluation: dict[str, Any]
    exit_layers: list[int]

    @classmethod
    def read(cls, done: Done) -> _Run:
        record, about = load_record(RunFolder(done.run).outputs)
        return cls(record, done.evaluation(), list(about["exit_layers"]))

    def policy(self, choice: Choice) -> str:
        best: str | None = self.evaluation["best_policy"] if choice == "best" else None
        return best or str(self.evaluation["policy"])

    @property
    def last_exit(self) -> Tensor:
        return torch.full_like(self.record.index, self.record.num_exits - 1)

    def at_speed(self, policy: str, speedup: float) -> Mixture | None:
        """The exits at a speed-up by layers against the recipe's own depth; None where it is not attained.

        As evaluation.json's `at`: by the strictest threshold that gives this speed on the test rows themselves. Where
        it overshoots, since many scores are equal, it is mixed with the threshold one step below.
        """
        if abs(speedup - 1.0) < 1e-9:
            return [(self.last_exit, 1.0)]
        if speedup < 1.0 or policy not in self.record.scores:
            return None
        bracket = bracket_speedup(self.record.scores[policy], self.exit_layers, speedup)
        if bracket is None:
            return None
        faster, slower, share = bracket
        return [(faster, 1.0)] if share == 0.0 else [(faster, 1 - share), (slower, share)]

    def curve(self, policy: str, metric: str) -> list[CurvePoint]:
        """A policy's curve on the test rows, from slow to fast, down to the first exit."""
        record, layers = self.record, torch.tensor(self.exit_layers, dtype=torch.float64)
        spent = layers.unsqueeze(1).expand(-1, len(record.index))

        def value(logits: Tensor, labels: Tensor) -> float:  # float64 where it is a mean over rows or questions
            units = unit_values(metric, logits, labels, record.queries)
            return metric_value(metric, logits, labels, record.queries) if units is None else float(units.mean())

        arguments = (self.exit_layers, spent, spent[-1], value)
        fixed = fixed_exit_points(record, *arguments)
        if policy not in record.scores:  # a fixed exit
            return fixed
        points = sweep(record, policy, *arguments, num_points=CURVE_POINTS)
        # As `area_under_curve`: where a policy cannot leave at the first exit, a straight line goes on to it.
        return points if points[-1].speedup_layers >= fixed[-1].speedup_layers else [*points, fixed[-1]]


def read_results(cells: Sequence[Cell], targets: Sequence[float]) -> list[TaskResult]:
    """The results of finished cells, task by task, at some speed-ups by layers."""
    found: dict[str, dict[str, list[_Run]]] = {}
    for cell in cells:
        done = cell.done()
        if done is not None:
            found.setdefault(cell.task, {}).setdefault(cell.recipe, []).append(_Run.read(done))
    tasks = dict.fromkeys(cell.task for cell in cells)
    return [_task_result(task, found[task], targets) for task in tasks if task in found]


def _task_result(task: str, runs: dict[str, list[_Run]], targets: Sequence[float]) -> TaskResult:
    every = [run for of_recipe in runs.values() for run in of_recipe]
    layers = max(run.exit_layers[-1] for run in every)
    curves = [run.exit_layers for run in every if len(run.exit_layers) > 1]
    # Areas are means over the cost axis: those of curves that begin or end elsewhere cannot be compared.
    span = (min((e[0] for e in curves), default=1), layers)
    result = TaskResult(task, every[0].evaluation["metric"], len(every[0].record.labels))
    choices: tuple[Choice, Choice] = ("own", "best")
    for recipe, of_recipe in runs.items():
        own = of_recipe[0].exit_layers
        slowest, with_area = layers / own[-1], len(own) > 1 and (own[0], own[-1]) == span
        figures = {c: _figures(of_recipe, c, result.metric, targets, slowest, with_area) for c in choices}
        result.recipes.append(RecipeResult(recipe, own[-1], slowest, len(own) == 1, figures))
    return result


def _figures(
    runs: list[_Run], choice: Choice, metric: str, targets: Sequence[float], slowest: float, with_area: bool
) -> PolicyFigures:
    policies = [run.policy(choice) for run in runs]
    pairs = list(zip(runs, policies, strict=True))
    records = [run.record.answered_by(policy) for run, policy in pairs]
    full = estimate(metric, records, [[(run.last_exit, 1.0)] for run in runs])
    at: dict[str, Estimate | None] = {}
    for target in targets:
        found = [run.at_speed(policy, target / slowest) for run, policy in pairs]
        mixtures = [mixture for mixture in found if mixture is not None]
        at[f"{target:g}x"] = estimate(metric, records, mixtures) if len(mixtures) == len(runs) else None
    curves = [run.curve(policy, metric) for run, policy in pairs]
    at[AREA] = estimate(metric, records, [_trapezoids(curve) for curve in curves]) if with_area else None
    return PolicyFigures(policies, full, at, _mean_curve(curves, slowest))


def _trapezoids(curve: Sequence[CurvePoint]) -> Mixture:
    """The weight of each point of a curve in the area under it, as a mean over the cost axis."""
    points = sorted(curve, key=lambda point: (1.0 / point.speedup_layers, point.metric))
    cost = np.array([1.0 / point.speedup_layers for point in points])
    widths = np.diff(cost)
    weights = (np.append(widths, 0.0) + np.insert(widths, 0, 0.0)) / 2
    return [(p.exits, float(w)) for p, w in zip(points, weights / (cost[-1] - cost[0]), strict=True)]


def _mean_curve(curves: Sequence[Sequence[CurvePoint]], slowest: float) -> list[tuple[float, float]]:
    """The mean over seeds at equal cost, straight lines between the points; speed-ups against the full depth."""
    fastest = min(max(point.speedup_layers for point in curve) for curve in curves)
    costs = np.linspace(1.0, 1.0 / fastest, 101 if fastest > 1 else 1)
    means = np.zeros_like(costs)
    for curve in curves:
        points = sorted((1.0 / point.speedup_layers, point.metric) for point in curve)
        means += np.interp(costs, [c for c, _ in points], [m for _, m in points]) / len(curves)
    return [(float(slowest / c), float(m)) for c, m in zip(costs, means, strict=True)]


def estimate(metric: str, records: Sequence[ExitRecord], mixtures: Sequence[Mixture]) -> Estimate:
    """The mean over seeds of the metric's weighted sum at several choices of exits; a record and mixture a seed."""
    first = records[0]
    same = all(torch.equal(r.index, first.index) and torch.equal(r.labels, first.labels) for r in records)
    pairs = enumerate(zip(records, mixtures, strict=True))
    found = [_resampled(metric, record, mixture, 0 if same else number) for number, (record, mixture) in pairs]
    values = [of_seed for of_seed, _ in found]
    interval = percentiles(np.mean([resampled for _, resampled in found], axis=0))
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.mean(values), low, high, deviation, len(values))


def _resampled(metric: str, record: ExitRecord, mixture: Mixture, seed: int) -> tuple[float, np.ndarray]:
    """The weighted sum, and the same in each resample, (R,); NaN where there is nothing to resample."""
    weights = np.array([weight for _, weight in mixture])
    arguments = [(metric, record.logits_at(exits), record.labels, record.queries) for exits, _ in mixture]
    units = [found for each in arguments if (found := unit_values(*each)) is not None]
    if units:  # sums of means are means of sums
        total = torch.stack([weight * of_exits for weight, of_exits in zip(weights, units, strict=True)]).sum(0)
        on_rows, count, parts, weights = float(total.mean()), len(total), [mean_of(total)], np.ones(1)
    else:
        on_rows = float(weights @ [metric_value(*each) for each in arguments])
        counts, parts = map(list, zip(*(weighted_metric(*each) for each in arguments), strict=True))
        count = counts[0]
    return on_rows, weights @ bootstrap_values(parts, count, seed=seed) if count else np.full(1, np.nan)
