"""Runs at equal speed: what each reaches, and whether another one's difference to the first is more than chance.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mebert.commands.compare.runs import TestedRun
from mebert.metrics.at_speed import exits_at_speedup
from mebert.metrics.bootstrap import Interval, mcnemar, paired_bootstrap
from mebert.metrics.elue import Points, elue_score, placed_at
from mebert.metrics.task import metric_value

__all__ = ["Comparison", "Paired", "compare_runs"]


@dataclass(frozen=True)
class Paired:
    """One run against the first one at one speed.

    Attributes:
        run: Its number among the runs, from 1 for the second.
        speedup: By layers.
        value: Its metric minus the first one's.
        interval: 95 % paired bootstrap.
        p_value: Two-sided.
        test: `mcnemar` for accuracy, else `bootstrap`.
    """

    run: int
    speedup: float
    value: float
    interval: Interval | None
    p_value: float
    test: str


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: The runs.
        speedups: By layers, against the deepest run's; from 1 (its last exit).
        metrics: Of each run, its metric at each speed, or None where its policy does not attain it.
        over_first: Of each run, ELUE's score of its curve against the first run's; None where a curve is missing.
        paired: Every other run against the first, at the speeds that both attain.
    """

    runs: Sequence[TestedRun]
    speedups: Sequence[float]
    metrics: list[list[float | None]]
    over_first: list[float | None]
    paired: list[Paired]


def compare_runs(runs: Sequence[TestedRun], speedups: Sequence[float], rounds: int = 1000) -> Comparison:
    """Compare runs at equal speed by layers; each threshold is the one that gives the speed on these rows.

    Speed-ups count against the deepest run: one with k of its L layers has its last exit at L / k.

    Args:
        runs: On the same rows (`check_comparable`).
        speedups: Above 1; the last exit is always there.
        rounds: Resamples of the paired bootstrap.
    """
    speeds = [1.0, *sorted({s for s in speedups if s > 1.0})]
    deepest = max(run.exit_layers[-1] for run in runs)
    logits = [[_logits(run, speed * run.exit_layers[-1] / deepest) for speed in speeds] for run in runs]
    paired = [
        _paired(number, speed, runs[0], before, after, rounds)
        for number in range(1, len(runs))
        for speed, before, after in zip(speeds, logits[0], logits[number], strict=True)
        if before is not None and after is not None
    ]
    metrics = [
        [None if x is None else metric_value(run.metric, x, run.record.labels, run.record.queries) for x in each]
        for run, each in zip(runs, logits, strict=True)
    ]
    reference = runs[0].curve()
    return Comparison(runs, speeds, metrics, [_over(run.curve(), reference) for run in runs], paired)


def _over(curve: Points, reference: Points) -> float | None:
    """ELUE's score at the reference's points that are not cheaper than whatever the curve attains."""
    costs = [cost for cost, _ in reference if curve and cost >= min(curve)[0]]
    return elue_score(placed_at(curve, costs), reference) if costs else None


def _logits(run: TestedRun, speed: float) -> Tensor | None:
    """The run's logits (N, C) at the exits taken, at a speed against its own depth; None where it is not attained."""
    record = run.record
    if abs(speed - 1.0) < 1e-9:
        return record.logits[-1]
    scores = record.scores.get(run.policy)  # a fixed exit has none
    exits = None if scores is None or speed < 1.0 else exits_at_speedup(scores, run.exit_layers, speed)
    return None if exits is None else record.logits_at(exits)


def _paired(number: int, speed: float, first: TestedRun, before: Tensor, after: Tensor, rounds: int) -> Paired:
    labels = first.record.labels
    found = paired_bootstrap(first.metric, before, after, labels, first.record.queries, rounds=rounds)
    if first.metric != "acc":
        return Paired(number, speed, found.value, found.interval, found.p_value, "bootstrap")
    right = [torch.eq(logits.argmax(-1), labels) for logits in (before, after)]
    return Paired(number, speed, found.value, found.interval, mcnemar(*right).p_value, "mcnemar")
