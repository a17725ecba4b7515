"""Which operating points are measured: what was asked for, as thresholds on these texts, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

import torch

from mebert.calibration import ExitCosts
from mebert.commands.bench.accuracy import Accuracy, expected_accuracy
from mebert.commands.bench.bench_model import BenchModel
from mebert.commands.bench.command import BenchSettings, Grid
from mebert.commands.bench.points import OperatingPoint, simulated_points, trained_points
from mebert.commands.bench.texts import Texts
from mebert.errors import UserError
from mebert.inference import PrecisionName, prepare_policy
from mebert.models import MultiExitModel
from mebert.storage.operating_point import MAX_DROP
from mebert.storage.thresholds import Threshold


@dataclass(frozen=True)
class Asked:
    """The operating points to measure: speed-ups by FLOPs, and before them a stored threshold of the model's policy.

    `speedup` is what is expected at the threshold, by layers. `full_depth` is what made the full depth the model's
    default, where the threshold is another, the slowest that is stored.
    """

    speedups: list[float]
    threshold: Threshold | None = None
    speedup: float | None = None
    full_depth: str | None = None


def asked_points(settings: BenchSettings, grid: Grid, measured: BenchModel) -> Asked:
    """The points that the settings ask for; without any the model's own, or the slowest that is stored."""
    point = measured.point
    if settings.speedups is not None or settings.policies is not None or point is None:
        return Asked(grid.speedups)
    more = grid.speedups if settings.thorough else []
    if point.threshold:
        return Asked(more, point.threshold, None if point.expected is None else point.expected.speedup)
    slowest = min(((speedup, t) for speedup, t in measured.stored.items() if t), key=itemgetter(0), default=None)
    if slowest is None:
        return Asked(grid.speedups, full_depth=point.chosen_by)
    return Asked(more, slowest[1], slowest[0], point.chosen_by)


def operating_points(
    settings: BenchSettings,
    grid: Grid,
    measured: BenchModel,
    texts: Texts,
    models: Mapping[PrecisionName, MultiExitModel],
    asked: Asked,
) -> tuple[dict[PrecisionName, list[OperatingPoint]], list[str]]:
    """The operating points of each precision, and notes on those that are out of reach."""
    policies, rows, predict = measured.policies, texts.rows, "predicted" in grid.engines
    costs = ExitCosts(measured.model, torch.from_numpy(rows.lengths))
    if not measured.trained:
        drawn = {
            p: simulated_points(m, policies, rows, costs, asked.speedups, settings.seed) for p, m in models.items()
        }
        return drawn, []
    speedups, threshold = asked.speedups, asked.threshold
    if threshold is not None and not texts.real and asked.speedup is not None:
        # Where samples leave depends on the texts: random tokens leave as early as is expected of texts.
        speedups, threshold = [round(asked.speedup, 2), *speedups], None
    points, notes = trained_points(measured.model, policies, rows, costs, speedups, predict, threshold)
    if not points:
        raise UserError("speedups: none is reached on these texts; " + "; ".join(notes))
    bound = {p: [replace(o, policy=prepare_policy(o.policy, m)) for o in points] for p, m in models.items()}
    return bound, notes


def known_accuracies(
    measured: BenchModel, points: Sequence[OperatingPoint], texts: Texts, asked: Asked
) -> dict[tuple[str, float], Accuracy | None]:
    """What is known of the accuracy at each point: on random tokens only at the threshold that is stored."""
    own, found = measured.point, dict[tuple[str, float], Accuracy | None]()
    allowed = MAX_DROP if own is None else own.allowed_drop
    policies = {policy.name: policy for policy in measured.policies}
    for number, point in enumerate(points):
        threshold: Threshold | None = point.policy.threshold
        if not texts.real:
            threshold = asked.threshold if number == 0 else None
        accuracy = None
        if threshold is not None and measured.last_test is not None:
            accuracy = measured.last_test.accuracy(policies[point.name], threshold, allowed)
        if accuracy is None and own is not None and (own.policy, own.threshold) == (point.name, threshold):
            accuracy = expected_accuracy(own.expected, allowed)
        found[point.name, point.target] = accuracy
    return found
