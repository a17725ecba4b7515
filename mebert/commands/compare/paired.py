"""Runs at equal speed: the metric of each, and paired tests of the others against the first.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mebert.commands.compare.run_view import RunView
from mebert.errors import UserError
from mebert.metrics.at_speed import exits_at_speedup
from mebert.metrics.bootstrap import Interval, mcnemar, paired_bootstrap
from mebert.metrics.elue import Points, elue_score, placed_at
from mebert.metrics.task import metric_value


@dataclass(frozen=True)
class Paired:
    """One run against the first one at one speed.

    Attributes:
        run: Index of the run in `Comparison.runs`, at least 1.
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
        metrics: For each run, its metric at each speed, or None where its policy does not attain it.
        over_first: For each run, ELUE's score of its curve against the first run's; None where a curve is missing.
        paired: Every other run against the first, at the speeds that both attain.
    """

    runs: Sequence[RunView]
    speedups: Sequence[float]
    metrics: list[list[float | None]]
    over_first: list[float | None]
    paired: list[Paired]


def mismatch(first: RunView, other: RunView) -> str | None:
    """The reason why two tested runs cannot be compared row by row; None if they can."""
    for what, a, b in (("task", first.task, other.task), ("metric", first.metric, other.metric)):
        if a != b:
            return f"their {what} differs ({a}, {b}); give runs of one task"
    one, two = first.outputs, other.outputs
    if len(one.labels) != len(two.labels) or not torch.equal(one.index, two.index):
        return (
            f"they were tested on other rows ({len(one.labels):,} and {len(two.labels):,}); test both on the same "
            f"split: python -m mebert test --config {other.folder}/config.yaml --ckpt_path "
            f"{other.folder}/checkpoints/best.ckpt"
        )
    if not torch.equal(one.labels, two.labels) or one.logits.shape[-1] != two.logits.shape[-1]:
        return f"the labels of their rows differ, so they were tested on other rows of {first.task}"
    return None


def check_comparable(runs: Sequence[RunView]) -> None:
    """Check that all runs were tested on the same rows of the same task.

    Raises:
        UserError: Two were not.
    """
    for other in runs[1:]:
        reason = mismatch(runs[0], other)
        if reason:
            raise UserError(f"{runs[0].folder} and {other.folder} cannot be compared: {reason}")


def compare_runs(runs: Sequence[RunView], speedups: Sequence[float], rounds: int = 1000) -> Comparison:
    """Compare runs at equal speed by layers; each threshold is the one that gives the speed on these rows.

    Speed-ups count against the deepest run: one with k of its L layers has its last exit at L / k.

    Args:
        runs: On the same rows (`check_comparable`), each with its outputs.
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
        [None if x is None else metric_value(run.metric, x, run.outputs.labels, run.outputs.queries) for x in each]
        for run, each in zip(runs, logits, strict=True)
    ]
    reference = runs[0].cost_curve()
    return Comparison(runs, speeds, metrics, [_over(run.cost_curve(), reference) for run in runs], paired)


def _over(curve: Points, reference: Points) -> float | None:
    """ELUE's score at the costs of the reference's points, without those below the curve's cheapest point."""
    costs = [cost for cost, _ in reference if curve and cost >= min(curve)[0]]
    return elue_score(placed_at(curve, costs), reference) if costs else None


def _logits(run: RunView, speed: float) -> Tensor | None:
    """The run's logits (N, C) at the exits taken, at a speed against its own depth; None where it is not attained."""
    if abs(speed - 1.0) < 1e-9:
        return run.outputs.logits[-1]
    scores = run.outputs.scores.get(run.policy)  # a fixed exit has none
    exits = None if scores is None or speed < 1.0 else exits_at_speedup(scores, run.exit_layers, speed)
    return None if exits is None else run.outputs.logits_at(exits)


def _paired(number: int, speed: float, first: RunView, before: Tensor, after: Tensor, rounds: int) -> Paired:
    labels = first.outputs.labels
    found = paired_bootstrap(first.metric, before, after, labels, first.outputs.queries, rounds=rounds)
    if first.metric != "acc":
        return Paired(number, speed, found.value, found.interval, found.p_value, "bootstrap")
    right = [torch.eq(logits.argmax(-1), labels) for logits in (before, after)]
    return Paired(number, speed, found.value, found.interval, mcnemar(*right).p_value, "mcnemar")
