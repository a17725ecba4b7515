"""Which documents of a query can no longer be among its top k, from bounds on how far a score still moves.

Shapes: E exits, N documents of a recorded pass, B documents of a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.ranking import comparable_logits, ranking_scores

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Shares of documents for which bounds are kept with a model."""

Bounds = tuple[tuple[float, float], ...]
"""Lowest and highest final score minus the score at the exit, of each exit before the last, (E - 1)."""


def final_score_bounds(logits: Tensor, temperatures: Sequence[float] = ()) -> dict[float, Bounds]:
    """Coverage to bounds on how far the ranking score moves from each exit to the last one; labels are not needed.

    Of N recorded changes the m-th lowest and the m-th highest, m = floor((N + 1) (1 - coverage) / 2): at each exit a
    document exchangeable with these lies within with at least that probability. A coverage for which N is too small
    is left out.

    Source: split conformal prediction intervals (Lei et al. 2018, with two tails; RECONSTRUCTED for exits).

    Args:
        logits: (E, N, C) of documents that the model was not trained on, C 1 or 2.
        temperatures: Of each exit, (E,), as `comparable_logits` takes them.
    """
    exits = range(len(logits))
    scores = torch.stack(
        [ranking_scores(comparable_logits(logits[i], torch.full(logits.shape[1:2], i), temperatures)) for i in exits]
    )
    change = (scores[-1] - scores[:-1]).double().sort(1).values
    found = {}
    for coverage in COVERAGES:
        outside = int((change.shape[1] + 1) * (1 - coverage) / 2 + 1e-9)
        if outside:
            pairs = zip(change[:, outside - 1].tolist(), change[:, -outside].tolist(), strict=True)
            found[coverage] = tuple(pairs)
    return found


class TopK:
    """Decides which documents of one query leave, for an engine that takes them batch by batch.

    A document of score s at an exit ends within [s + low, s + high]. It leaves when k others of the query are sure to
    end above it: running documents by their lower ends, those of earlier batches by their final scores. Where the
    bounds hold, no document of the top k leaves.

    Args:
        k: At least 1.
        bounds: Of each exit before the last; empty: none leaves.
        score: Logits (B, C) and 0-based exit to the scores that documents are ranked by, (B,).
    """

    def __init__(self, k: int, bounds: Bounds, score: Callable[[Tensor, int], Tensor]) -> None:
        self.k, self.bounds, self.score = k, bounds, score
        self._best: Tensor | None = None  # final scores of earlier batches, k at most

    def start(self, attention_mask: Tensor) -> None:
        """No state from exit to exit."""

    def may_leave(self, exit_index: int) -> bool:
        """Whether there are bounds for this exit."""
        return exit_index < len(self.bounds)

    def decide(self, exit_index: int, logits: Tensor, features: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """Which of the documents that still run leave, (B,) bool; arguments as `ExitPolicy.decide`."""
        low, high = self.bounds[exit_index]
        scores = self.score(logits, exit_index).double()
        sure = self._with_best(scores + low)
        if len(sure) <= self.k:
            return torch.zeros_like(scores, dtype=torch.bool), None
        return scores + high < sure.topk(self.k).values[-1], None

    def answer(self, exit_index: int, logits: Tensor, state: Any = None) -> Tensor:
        """The exit's own logits."""
        return logits

    def finish(self, scores: Tensor) -> None:
        """Take the final scores (n,) of a batch's documents that ran to the end."""
        found = self._with_best(scores.double())
        self._best = found.topk(min(self.k, len(found))).values

    def _with_best(self, scores: Tensor) -> Tensor:
        return scores if self._best is None else torch.cat([self._best, scores])
