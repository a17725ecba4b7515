"""What the finished runs of a study say: for every task and recipe the metric at several speed-ups, area and curve.

Speed-ups count against the deepest recipe of the task: a recipe with the first k of L layers alone is a point at L / k.

Shapes: E exits, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mebert.commands.study.cell import CellFolder, Done
from mebert.commands.study.grid import Cell
from mebert.commands.study.intervals import Estimate, Mixture, estimate, value
from mebert.metrics.at_speed import bracket_speedup
from mebert.metrics.curve import CurvePoint, ExitRecord, fixed_exit_points, sweep
from mebert.metrics.record_files import load_record

__all__ = ["AREA", "Choice", "PolicyFigures", "RecipeResult", "TaskResult", "read_results"]

AREA = "area"
Choice = Literal["own", "best"]
CURVE_POINTS = 60  # as evaluation.json's areas


@dataclass
class PolicyFigures:
    """A recipe on a task with its own policy, or with the one that was best on validation data.

    Attributes:
        policies: The policy of each seed.
        alone: Nobody leaves before the last exit.
        at: Column (a speed-up such as `1.5x`, or `area`) to the figure; None where it is not attained.
        curve: (speed-up, metric) from slow to fast, mean over seeds.
    """

    policies: list[str]
    alone: Estimate
    at: dict[str, Estimate | None]
    curve: list[tuple[float, float]]


@dataclass
class RecipeResult:
    """A recipe on a task.

    Attributes:
        recipe: Its name.
        layers: Layers that the deepest exit runs.
        slowest: Its speed-up without leaving early, 1 for a recipe with all layers.
        single: One exit alone: a point, no curve.
        figures: With the own and with the best policy.
        seconds: Of its runs, each.
    """

    recipe: str
    layers: int
    slowest: float
    single: bool
    figures: dict[Choice, PolicyFigures]
    seconds: list[float]


@dataclass
class TaskResult:
    """All recipes on a task.

    Attributes:
        task: Its name.
        metric: Name of the main metric.
        rows: Test rows.
        layers: Layers of the deepest recipe.
        recipes: In the study's order; those without a finished run are left out.
    """

    task: str
    metric: str
    rows: int
    layers: int
    recipes: list[RecipeResult] = field(default_factory=list)


@dataclass
class _Run:
    record: ExitRecord
    evaluation: dict[str, Any]
    exit_layers: list[int]
    seconds: float

    @classmethod
    def read(cls, done: Done) -> _Run:
        record, about = load_record(done.run / "outputs.safetensors")
        return cls(record, done.evaluation(), list(about["exit_layers"]), done.seconds)

    def policy(self, choice: Choice) -> str:
        own: str = self.evaluation["policy"]
        best: str | None = self.evaluation["best_policy"]
        return own if choice == "own" or best is None else best


def read_results(cells: Sequence[Cell], targets: Sequence[float]) -> list[TaskResult]:
    """Everything that is done, task by task.

    Args:
        cells: Those of the study.
        targets: Speed-ups by layers.
    """
    results = []
    for task in dict.fromkeys(cell.task for cell in cells):
        runs: dict[str, list[_Run]] = {}
        for cell in cells:
            done = CellFolder(cell).done() if cell.task == task else None
            if done is not None:
                runs.setdefault(cell.recipe, []).append(_Run.read(done))
        if runs:
            results.append(_task_result(task, runs, targets))
    return results


def _task_result(task: str, runs: dict[str, list[_Run]], targets: Sequence[float]) -> TaskResult:
    every = [run for of_recipe in runs.values() for run in of_recipe]
    layers = max(run.exit_layers[-1] for run in every)
    curves = [run.exit_layers for run in every if len(run.exit_layers) > 1]
    # Areas are means over the cost axis: of curves that begin or end elsewhere they cannot be compared.
    span = (min((e[0] for e in curves), default=1), layers)
    first = every[0]
    result = TaskResult(task, first.evaluation["metric"], len(first.record.labels), layers)
    for recipe, of_recipe in runs.items():
        own = of_recipe[0].exit_layers
        slowest = layers / own[-1]
        with_area = len(own) > 1 and (own[0], own[-1]) == span
        figures: dict[Choice, PolicyFigures] = {
            choice: _figures(of_recipe, choice, result.metric, targets, slowest, with_area)
            for choice in ("own", "best")
        }
        seconds = [run.seconds for run in of_recipe]
        result.recipes.append(RecipeResult(recipe, own[-1], slowest, len(own) == 1, figures, seconds))
    return result


def _figures(
    runs: list[_Run], choice: Choice, metric: str, targets: Sequence[float], slowest: float, with_area: bool
) -> PolicyFigures:
    records, policies = [run.record for run in runs], [run.policy(choice) for run in runs]
    pairs = list(zip(runs, policies, strict=True))
    alone = estimate(metric, records, [[(_last_exit(run), 1.0)] for run in runs])
    at: dict[str, Estimate | None] = {}
    for target in targets:
        found = [_at_speed(run, policy, target / slowest) for run, policy in pairs]
        mixtures = [mixture for mixture in found if mixture is not None]
        at[f"{target:g}x"] = estimate(metric, records, mixtures) if len(mixtures) == len(runs) else None
    curves = [_curve(run, policy, metric) for run, policy in pairs]
    at[AREA] = estimate(metric, records, [_trapezoids(curve) for curve in curves]) if with_area else None
    return PolicyFigures(policies, alone, at, _mean_curve(curves, slowest))


def _at_speed(run: _Run, policy: str, speedup: float) -> Mixture | None:
    """The exits at a speed-up by layers against the recipe's own depth; None where it is not attained.

    As evaluation.json's `at`: the threshold is the strictest that gives this speed on the test rows themselves, which
    needs no labels, so that all are compared at the same speed. Where it overshoots, since many scores are equal, it is
    mixed with the threshold one step below, as a coin toss for each of these rows would.
    """
    if abs(speedup - 1.0) < 1e-9:
        return [(_last_exit(run), 1.0)]
    if speedup < 1.0 or policy not in run.record.scores:
        return None
    around = bracket_speedup(run.record.scores[policy], run.exit_layers, speedup)
    if around is None:
        return None
    faster, slower, share = around
    return [(faster, 1.0)] if share == 0.0 else [(faster, 1 - share), (slower, share)]


def _last_exit(run: _Run) -> Tensor:
    return torch.full_like(run.record.index, run.record.num_exits - 1)


def _curve(run: _Run, policy: str, metric: str) -> list[CurvePoint]:
    """A policy's curve on the test rows, from slow to fast, down to the first exit."""
    record, layers = run.record, torch.tensor(run.exit_layers, dtype=torch.float64)
    spent = layers.unsqueeze(1).expand(-1, len(record.index))
    arguments = (run.exit_layers, spent, spent[-1], lambda z, y: value(metric, z, y, record.queries))
    fixed = fixed_exit_points(record, *arguments)
    if policy not in record.scores:  # a fixed exit
        return fixed
    points = sweep(record, policy, *arguments, num_points=CURVE_POINTS)
    # As `area_under_curve`: a policy that cannot leave so early goes on to the first exit by a straight line.
    return points if points[-1].speedup_layers >= fixed[-1].speedup_layers else [*points, fixed[-1]]


def _trapezoids(curve: Sequence[CurvePoint]) -> Mixture:
    """What each point of a curve weighs in the area under it, as a mean over the cost axis."""
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
