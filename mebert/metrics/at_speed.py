"""Exits at an exact speed-up, and the range of thresholds that changes exits.

Shapes: E exits, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mebert.metrics.curve import replay, speedup_layers, threshold_for_speedup
from mebert.storage.thresholds import Threshold, threshold_text


def bracket_speedup(scores: Tensor, exit_layers: Sequence[int], target: float) -> tuple[Tensor, Tensor, float] | None:
    """Exits on both sides of a speed-up by layers (at least 1) on the samples of scores (E, N); no labels are needed.

    Returns the 0-based exits (N,) at the strictest threshold that reaches the speed-up, the slower exits one score
    below, and the probability in [0, 1) of the latter for each sample that gives the exact speed-up on average. None
    where the policy does not attain the speed-up.
    """
    threshold = threshold_for_speedup(scores, exit_layers, target)
    if threshold is None:
        return None
    faster = replay(scores, threshold)
    reached = speedup_layers(faster, exit_layers)
    if reached <= target:
        return faster, faster, 0.0
    # The threshold is the next number above a score: one step down, the samples of that score stay.
    slower = replay(scores, float(torch.nextafter(scores.new_tensor(threshold), scores.new_tensor(-math.inf))))
    wanted, least, most = (1 / speed for speed in (target, reached, speedup_layers(slower, exit_layers)))
    return faster, slower, (wanted - least) / (most - least)


def exits_at_speedup(scores: Tensor, exit_layers: Sequence[int], target: float, seed: int = 0) -> Tensor | None:
    """The 0-based exits (N,) at a speed-up by layers, as `bracket_speedup`; None where the policy does not attain it.

    The threshold is the strictest one that reaches the speed-up. Where many scores are equal and it is exceeded, some
    of these samples are drawn to stay, so that policies with few thresholds are compared at equal speed.
    """
    found = bracket_speedup(scores, exit_layers, target)
    if found is None:
        return None
    exits, slower, share = found
    if share == 0.0:
        return exits
    rows = (slower != exits).nonzero().squeeze(-1)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    layers = torch.as_tensor(exit_layers, dtype=torch.float64)
    to_spend = exit_layers[-1] * len(exits) / target - float(layers[exits].sum())
    more = (layers[slower[rows]] - layers[exits[rows]]).cumsum(0)
    stay = rows[more <= to_spend + 1e-6]
    exits[stay] = slower[stay]
    return exits


def score_range(scores: Tensor) -> tuple[float, float] | None:
    """The range of thresholds that changes exits, from scores (E, N); None where no sample may leave early.

    At or below the first every sample runs all layers, above the second every sample leaves as early as it can.
    """
    early = scores[:-1]
    known = early[torch.isfinite(early)]
    if not len(known):
        return None
    first = replay(scores, math.inf)
    leaving = first < len(early)
    last_of_each = scores[first, torch.arange(scores.shape[1])][leaving]
    return float(known.min()), float(last_of_each.max())


def describe_inert_threshold(policy: str, threshold: Threshold, scores: Tensor, where: str) -> str | None:
    """A warning about a threshold outside the scores (E, N) that occur; None inside, or for 0, which turns exits off.

    `where` is the data of the pass, such as "validation data".
    """
    found = score_range(scores)
    if found is None or threshold == 0.0:
        return None
    if isinstance(threshold, tuple):  # each exit has a range of its own
        runs_all = bool((replay(scores, threshold) == len(scores) - 1).all())
        if not runs_all and not torch.equal(replay(scores, threshold), replay(scores, math.inf)):
            return None
    else:
        runs_all = threshold <= found[0]
        if not runs_all and threshold <= found[1]:
            return None
    if runs_all:
        effect = "every sample runs all layers"
    else:
        at_once = bool((replay(scores, math.inf) == 0).all())
        effect = "every sample leaves at the first exit" + ("" if at_once else " that may let it go")
    return (
        f"the threshold {threshold_text(threshold, 6)} of the policy {policy!r} decides nothing: on {where} {effect}; "
        f"scores there call for a threshold above {found[0]:.7g} and at most {found[1]:.7g}"
    )
