"""Thresholds from one recorded pass: for a cost, for a most allowed drop, and with a guarantee.

Shapes: E exits, N samples. Scores and thresholds lie in [0, 1], and a sample leaves where its score is below
the threshold; a larger threshold lets every sample leave where it left before or earlier ("stricter" is smaller).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mebert.calibration.bounds import fixed_sequence, hoeffding_bentkus_p_value, holm
from mebert.calibration.risks import NewMistakes, Risk
from mebert.errors import UserError
from mebert.metrics.curve import ExitRecord, replay
from mebert.storage.thresholds import Threshold

PValue = Literal["loss", "wsr"]
"""How a p-value is computed: the loss's own test, or the betting one of Waudby-Smith and Ramdas."""
Correction = Literal["fixed_sequence", "holm"]
"""How tests of many thresholds are kept honest."""
HOLM_STEP = 20  # Holm tests each of so many thresholds of the grid: the more it tests, the smaller its levels


def threshold_for_cost(scores: Tensor, costs: Tensor, most: float) -> float | None:
    """The strictest threshold whose mean cost is within a budget, or None where the fastest threshold exceeds it.

    The mean cost falls as the threshold rises and changes only at scores that occur, so a bisection over them is exact.
    `scores` and `costs` (of leaving at each exit, rising from exit to exit) are (E, N), `most` is the mean per sample.
    """

    def cost(threshold: float) -> float:
        return float(costs.gather(0, replay(scores, threshold).unsqueeze(0)).mean())

    if cost(0.0) <= most:
        return 0.0
    candidates = _candidates(scores)
    if not len(candidates) or cost(float(candidates[-1])) > most:
        return None
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(float(candidates[middle])) <= most else (middle + 1, high)
    return float(candidates[low])


def threshold_for_drop(
    scores: Tensor, metric_at: Callable[[Tensor], float], max_drop: float, most_candidates: int = 500
) -> float:
    """The fastest threshold at which the metric is at most `max_drop` below that of the full model, on these samples.

    A measurement, not a guarantee: the threshold is chosen on the samples on which it is measured. The metric need not
    fall monotonically; the largest threshold within the drop is taken. 0 (no early exit) always is within it.
    `metric_at` is the metric when each sample leaves at its exit (N,), higher is better. At most `most_candidates`
    thresholds are tried, evenly spaced among those that change an exit.
    """
    wanted = metric_at(replay(scores, 0.0)) - max_drop
    candidates = _candidates(scores)
    if len(candidates) > most_candidates:
        candidates = candidates[torch.linspace(0, len(candidates) - 1, most_candidates).long()]
    for threshold in reversed(candidates.tolist()):
        if metric_at(replay(scores, threshold)) >= wanted - 1e-6:  # metrics are float32, and 0.9 - 0.1 is not 0.8
            return threshold
    return 0.0


@dataclass(frozen=True)
class Guarantee:
    """A threshold with a bound on its risk.

    Attributes:
        threshold: Leave below it; 0 where only the full model is within the bound.
        loss: Name of the risk that is bounded.
        epsilon: The bound.
        delta: The bound holds with probability at least 1 - delta over the draw of the samples.
        measured: The risk measured on them at the threshold.
    """

    threshold: Threshold
    loss: str
    epsilon: float
    delta: float
    samples: int
    measured: float
    p_value: PValue = "loss"
    correction: Correction = "fixed_sequence"


def threshold_grid() -> Tensor:
    """About a thousand fixed thresholds from strict to loose, float32: even in logits from 1e-6 to 1 - 1e-6, then 1.

    Fixed, because the order of the tests must not depend on the samples; even in logits, because confident exits
    have scores near 0. More points do not weaken the guarantee: a fixed sequence needs no correction for its length.
    """
    inner = torch.linspace(-13.8, 13.8, 1105, dtype=torch.float64).sigmoid()
    return torch.cat([inner, torch.ones(1)]).float().unique()  # near 1 some round to the same number


def losses_at(record: ExitRecord, scores: Tensor, threshold: Threshold, risk: Risk) -> Tensor:
    """The risk's loss of each sample of a classification at a threshold, (N,) float64; `scores` (E, N).

    Of several labels a row it is the mean of their losses, such as the share of labels lost.
    """
    early = record.logits_at(replay(scores, threshold)).argmax(-1)
    losses = risk.losses(early, record.logits[-1].argmax(-1), record.labels)
    return losses.mean(-1) if record.labels.ndim == 2 else losses


def check_levels(epsilon: float, delta: float) -> None:
    """Raise a UserError for an epsilon or a delta outside of (0, 1)."""
    for name, value in (("epsilon", epsilon), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise UserError(f"{name} must be in (0, 1), got {value}")


def guaranteed_threshold(
    record: ExitRecord,
    scores: Tensor,
    epsilon: float,
    delta: float,
    risk: Risk | None = None,
    p_value: PValue = "loss",
    correction: Correction = "fixed_sequence",
    path: Sequence[Threshold] = (),
) -> Guarantee:
    """The fastest threshold whose risk is at most epsilon with probability at least 1 - delta: Learn then Test.

    Thresholds are tested from the strictest on until the first whose test fails, so that no correction for their
    number is needed; or, by Holm's procedure, a twentieth of them in any order, of which the fastest that passes is
    taken, also past one that fails. EXACT (arXiv 2110.01052); the grid is ours.

    Args:
        record: The pass over samples drawn independently from the distribution of later ones, none of which were used
            to train the model or to choose anything about it. Rows without a label (below 0) are left out, unless the
            risk needs none.
        scores: The policy's, (E, N).
        epsilon: Most allowed risk, in (0, 1).
        delta: Most allowed probability that the risk is larger, in (0, 1).
        risk: What is bounded; None for `NewMistakes`.
        p_value: How the tests' p-values are computed. The rows are taken in a drawn order for `wsr`.
        correction: How the tests are kept honest.
        path: The thresholds to test, from strict to loose, none of which these samples chose; empty: `threshold_grid`.

    Raises:
        UserError: Too few samples for any guarantee, or the record is of a regression or a ranking.
    """
    risk = NewMistakes() if risk is None else risk
    check_levels(epsilon, delta)
    if record.logits.shape[-1] == 1:
        raise UserError("a guarantee needs classes, and this is a regression; use max_drop, a measurement")
    if record.queries is not None:  # errors within one query are correlated: the test would overestimate n
        told = "a guarantee needs independent rows, and these are candidates of common queries"
        raise UserError(f"{told}; use max_drop, a measurement")
    unlabelled = int((record.labels < 0).sum()) if risk.needs_labels else 0
    if unlabelled:  # their loss is not known, and counting it as 0 would make the guarantee false
        known = (record.labels >= 0).nonzero().squeeze(-1)
        record, scores = record.select(known), scores[:, known]
    samples = len(record.labels)
    needed = (risk.smallest_split if p_value == "loss" else risk.smallest_betting_split)(epsilon, delta)
    if samples < needed:
        raise UserError(
            f"{samples} {'labelled ' if unlabelled else ''}samples are too few to guarantee a loss of at most epsilon "
            f"{epsilon:g} with probability "
            f"{1 - delta:g} (delta {delta:g}): even without a single loss it takes {needed}; give a larger split, or a "
            "larger epsilon or delta"
        )
    grid: Sequence[Threshold] = path or threshold_grid().tolist()
    if correction == "holm":
        grid = [*reversed(grid[::-HOLM_STEP])]
    drawn = torch.randperm(samples, generator=torch.Generator().manual_seed(0))

    def p_of(threshold: Threshold) -> Tensor:
        losses = losses_at(record, scores, threshold, risk)
        if p_value == "wsr":
            return risk.betting_p_value(losses[drawn], epsilon, delta)
        if record.labels.ndim == 2:  # shares of labels: any number from 0 to 1
            return hoeffding_bentkus_p_value(losses.sum(), samples, risk.limit(epsilon))
        return risk.p_value(losses.sum(), samples, epsilon)

    p_values = torch.stack([p_of(threshold) for threshold in grid])
    if correction == "holm":
        passed = max((n + 1 for n, sure in enumerate(holm(p_values, delta).tolist()) if sure), default=0)
    else:
        passed = int(fixed_sequence(p_values, delta))
    threshold = grid[passed - 1] if passed else 0.0
    measured = risk.measured(float(losses_at(record, scores, threshold, risk).mean()))
    return Guarantee(threshold, risk.name, epsilon, delta, samples, measured, p_value, correction)


def _candidates(scores: Tensor) -> Tensor:
    """The thresholds in (0, 1] that take different exits, sorted: halfway from each score below 1 to the next larger.

    Halfway, because the same sample's score may round otherwise in another batch.
    """
    values = torch.unique(scores[:-1])
    values = values[values < 1.0]  # thresholds end at 1, and a score must lie below its threshold
    one = values.new_ones(1)
    return torch.maximum((values + torch.cat([values[1:], one])) / 2, torch.nextafter(values, one))
