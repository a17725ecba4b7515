"""Thresholds of each exit's own, and the figures of every exit rule at equal speed.

Shapes: E exits, N rows, P prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.at_speed import bracket_speedup
from mebert.metrics.curve import ExitRecord

PRICES = (0.0, *(10 ** (step / 12 - 2) for step in range(37)))  # 0, and 0.01 to 10, of running all layers


def leave(scores: Tensor, thresholds: Tensor) -> Tensor:
    """The 0-based exit (N,) of each row: the first with a score (E, N) below its threshold (E,), else the last."""
    early = scores < thresholds.unsqueeze(1)
    early[-1] = True
    return early.int().argmax(0)


def fit_thresholds(
    scores: Tensor, correct: Tensor, layers: Sequence[int], price: float, start: Tensor | None = None
) -> Tensor:
    """Thresholds (E,) that make `mean(correct) - price * mean(layers run) / L` largest, one exit after the other.

    Each exit's is the best for the others as they are, exactly: of the rows that come to it, those with the lowest
    scores leave, as many as pay. Repeated until nothing gains. The last exit's is infinite.

    Args:
        scores: (E, N), lower is more confident.
        correct: Whether each exit is right, (E, N).
        layers: Of the exits.
        price: Of running all layers, in accuracy.
        start: Thresholds (E,) to start from; None: nobody leaves early.
    """
    cost = torch.tensor(layers, dtype=torch.float64) / layers[-1]
    value = correct.double() - price * cost.unsqueeze(1)
    rows = torch.arange(scores.shape[1])
    thresholds = torch.zeros(len(layers), dtype=torch.float64) - torch.inf if start is None else start.clone()
    thresholds[-1] = torch.inf
    best = -torch.inf
    for _ in range(20):
        for index in reversed(range(len(layers) - 1)):
            others = thresholds.clone()
            others[index] = -torch.inf
            stays = leave(scores, others)
            gain = (value[index] - value[stays, rows])[stays > index]
            order = scores[index, stays > index].double().sort()
            total = torch.cat([gain.new_zeros(1), gain[order.indices].cumsum(0)])
            ends = torch.cat([order.values[1:] > order.values[:-1], torch.ones(1, dtype=torch.bool)])  # of equal scores
            total[1:][~ends[: len(gain)]] = -torch.inf
            count = int(total.argmax())
            thresholds[index] = (
                -torch.inf if count == 0 else torch.nextafter(order.values[count - 1], cost.new_tensor(2e9))
            )
        found = float(value[leave(scores, thresholds), rows].mean())
        if found <= best + 1e-12:
            break
        best = found
    return thresholds


def right_at(record: ExitRecord, name: str, layers: Sequence[int], speed: float) -> Tensor:
    """How likely each row (N,) is answered rightly by a rule with one threshold at a speed-up by layers.

    Where no threshold gives the speed exactly, rows that leave between the two nearest ones stay with one probability.
    """
    found = bracket_speedup(record.scores[name], layers, speed)
    if found is None:
        raise ValueError(f"{name} does not reach {speed:g}x")
    faster, slower, share = found
    answers = record.answered_by(name)
    fast, slow = (right(answers, exits) for exits in (faster, slower))
    return fast + share * (slow - fast)


def right(record: ExitRecord, exits: Tensor) -> Tensor:
    """1 for each row (N,) that is right at its exit, else 0."""
    return (record.logits_at(exits).argmax(-1) == record.labels).double()


def per_exit_points(
    name: str, chosen_on: ExitRecord, record: ExitRecord, layers: Sequence[int]
) -> list[tuple[float, float]]:
    """(share of the layers run, accuracy) of a rule with a threshold an exit, chosen on one pass, for all `PRICES`."""
    right = chosen_on.logits.argmax(-1) == chosen_on.labels
    cost = torch.tensor(layers, dtype=torch.float64) / layers[-1]
    points, thresholds = [(1.0, accuracy(record, torch.full_like(record.index, len(layers) - 1)))], None
    for price in PRICES:
        thresholds = fit_thresholds(chosen_on.scores[name], right, layers, price, thresholds)
        exits = leave(record.scores[name].double(), thresholds)
        points.append((float(cost[exits].mean()), accuracy(record, exits)))
    return [*points, (float(cost[0]), accuracy(record, torch.zeros_like(record.index)))]


def accuracy(record: ExitRecord, exits: Tensor) -> float:
    """The accuracy of a record's rows at some exits (N,)."""
    return float(right(record, exits).mean())


def at_cost(points: Sequence[tuple[float, float]], cost: float) -> float:
    """The accuracy at a cost, on the line between the two nearest points that a draw for each row attains."""
    below = max((point for point in points if point[0] <= cost), default=min(points))
    above = min((point for point in points if point[0] >= cost), default=max(points))
    if above[0] - below[0] < 1e-12:
        return max(below[1], above[1]) if below[0] == above[0] else below[1]
    share = (cost - below[0]) / (above[0] - below[0])
    return below[1] + share * (above[1] - below[1])


def per_exit_figures(
    name: str, validation: ExitRecord, record: ExitRecord, layers: Sequence[int], speeds: Sequence[float]
) -> dict[str, Any]:
    """Accuracies at speed-ups of a rule with a threshold an exit; each half of validation is judged by the other."""
    points = per_exit_points(name, validation, record, layers)
    even = torch.arange(len(validation.labels)) % 2 == 0
    halves = [validation.select(rows.nonzero().squeeze(-1)) for rows in (even, ~even)]
    crossed = [per_exit_points(name, a, b, layers) for a, b in (halves, halves[::-1])]

    def mean(speed: float) -> float:
        return sum(at_cost(half, 1 / speed) for half in crossed) / 2

    return {
        "at": {f"{speed:g}": at_cost(points, 1 / speed) for speed in speeds},
        "val_at": {f"{speed:g}": mean(speed) for speed in speeds},
    }
