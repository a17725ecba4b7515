"""Runs at equal speed: the metric of each, and paired tests of the others against the first.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mebert.commands.compare.run_view import RunView
from mebert.metrics.at_speed import exits_at_speedup
from mebert.metrics.bootstrap import Interval, mcnemar, paired_bootstrap
from mebert.metrics.elue import elue_score, placed_at
from mebert.metrics.task import metric_value, same_labels


@dataclass(frozen=True)
class Paired:
    """One run against the first one at one speed."""

    run: int  # index in `Comparison.runs`, at least 1
    speedup: float  # by layers
    value: float  # its metric minus the first one's
    interval: Interval | None  # 95 % paired bootstrap
    p_value: float  # two-sided
    test: str  # `mcnemar` for accuracy, else `bootstrap`


@dataclass(frozen=True)
class Comparison:
    """Runs side by side."""

    runs: Sequence[RunView]
    speedups: Sequence[float]  # by layers, against the deepest run's; from 1 (its last exit)
    metrics: list[list[float | None]]  # of each run at each speed; None where its policy does not attain it
    over_first: list[float | None]  # ELUE's score of each curve against the first run's; None where a curve is missing
    paired: list[Paired]  # every other run against the first, at the speeds that both attain


def mismatch(first: RunView, other: RunView) -> str | None:
    """The reason why two tested runs cannot be compared row by row; None if they can."""
    for what, a, b in (("task", first.task, other.task), ("metric", first.metric, other.metric)):
        if a != b:
            return f"their {what} differs ({a}, {b}); give runs of one task"
    if first.label_names and other.label_names and first.label_names != other.label_names:
        return (
            f"they were trained for other labels, or in another order ({', '.join(first.label_names)}; "
            f"{', '.join(other.label_names)}); give runs of the same labels"
        )
    one, two = first.outputs, other.outputs
    if len(one.labels) != len(two.labels) or not torch.equal(one.index, two.index):
        return (
            f"they were tested on other rows ({len(one.labels):,} and {len(two.labels):,}); test both on the same "
            f"split: {other.test_command}"
        )
    if not torch.equal(one.labels, two.labels) or one.logits.shape[2:] != two.logits.shape[2:]:
        return f"the labels of their rows differ, so they were tested on other rows of {first.task}"
    return None


def compare_runs(runs: Sequence[RunView], speedups: Sequence[float]) -> Comparison:
    """Compare runs without a `mismatch` at equal speed by layers, from 1; each threshold gives the speed on these rows.

    Speed-ups count against the deepest run: one with k of its L layers has its last exit at L / k.
    """
    speeds = [1.0, *sorted({s for s in speedups if s > 1.0})]
    deepest = max(run.exit_layers[-1] for run in runs)
    logits = [[_logits(run, speed * run.exit_layers[-1] / deepest) for speed in speeds] for run in runs]
    paired = [
        _paired(number, speed, runs[0], before, after)
        for number in range(1, len(runs))
        for speed, before, after in zip(speeds, logits[0], logits[number], strict=True)
        if before is not None and after is not None
    ]
    metrics = [
        [None if x is None else metric_value(run.metric, x, run.outputs.labels, run.outputs.queries) for x in each]
        for run, each in zip(runs, logits, strict=True)
    ]
    reference = runs[0].cost_curve()
    over = []
    for curve in (run.cost_curve() for run in runs):
        # At the costs of the reference's points, without those below the curve's cheapest point.
        costs = [cost for cost, _ in reference if curve and cost >= min(curve)[0]]
        over.append(elue_score(placed_at(curve, costs), reference) if costs else None)
    return Comparison(runs, speeds, metrics, over, paired)


def _logits(run: RunView, speed: float) -> Tensor | None:
    """The run's logits (N, C) at the exits taken, at a speed against its own depth; None where it is not attained."""
    if abs(speed - 1.0) < 1e-9:
        return run.outputs.logits[-1]
    scores = run.outputs.scores.get(run.policy)  # a fixed exit has none
    exits = None if scores is None or speed < 1.0 else exits_at_speedup(scores, run.exit_layers, speed)
    return None if exits is None else run.outputs.answered_by(run.policy).logits_at(exits)


def _paired(number: int, speed: float, first: RunView, before: Tensor, after: Tensor) -> Paired:
    labels = first.outputs.labels
    found = paired_bootstrap(first.metric, before, after, labels, first.outputs.queries)
    if first.metric != "acc":
        return Paired(number, speed, found.value, found.interval, found.p_value, "bootstrap")
    right = [same_labels(logits.argmax(-1), labels) for logits in (before, after)]
    return Paired(number, speed, found.value, found.interval, mcnemar(*right).p_value, "mcnemar")
