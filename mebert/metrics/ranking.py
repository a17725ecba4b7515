"""Ranking metrics over questions with several candidates: MAP, MRR and precision at 1, for all questions at once.

Shapes: N rows (one candidate each), Q questions, C classes. The metrics that are logged are torchmetrics' own
(`mebert.metrics.collected.QuestionRanking`). A curve needs hundreds of values, for which their loop over the questions
would take seconds, so `mean_over_questions` computes all questions at once (tests compare the two). Of equal scores an
irrelevant row is ranked before a relevant one, so that the value does not depend on the order of the rows or the number
of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def ranking_scores(logits: Tensor) -> Tensor:
    """The scores that rows of logits (..., C) are ranked by, (...): ln(p_1 / p_0), or the value itself where C = 1.

    The order is that of the probability of class 1; probabilities near 1 would be rounded to equal ones.
    """
    values = logits.float()
    return values.squeeze(-1) if logits.shape[-1] == 1 else values[..., 1] - values[..., 0]


def comparable_logits(logits: Tensor, exits: Tensor, temperatures: Sequence[float]) -> Tensor:
    """Logits (N, C) of the 0-based exits (N,) that rows took, each over its exit's temperature; with none as they are.

    Rows of a question are ranked together, but a shallow exit's scores are on another scale than the last one's. The
    order within an exit and the predicted classes do not change.
    """
    if not temperatures:
        return logits
    return logits.float() / logits.new_tensor(temperatures, dtype=torch.float32)[exits].unsqueeze(-1)


def is_relevant(labels: Tensor) -> Tensor:
    """Which rows (N,) are relevant: class 1, or a value above 0 in a regression."""
    return labels > 0


def average_precision(relevant: Tensor, ranks: Tensor, starts: Tensor) -> Tensor:
    """Average precision of each question, (Q,).

    `relevant` (N,) bool and `ranks` within the question, from 1, (N,) have the best-ranked row of each question first;
    `starts` (Q,) is each question's first row.
    """
    right = relevant.double()
    before = right.cumsum(0) - right  # relevant rows before a row, those of earlier questions included
    within = before - before[starts].repeat_interleave(_sizes(starts, len(ranks))) + right
    return _sum(right * within / ranks, starts) / _sum(right, starts)


def reciprocal_rank(relevant: Tensor, ranks: Tensor, starts: Tensor) -> Tensor:
    """1 / rank of each question's first relevant row, (Q,). Arguments as `average_precision`."""
    values = torch.where(relevant, 1.0 / ranks.double(), 0.0)
    return values.new_zeros(len(starts)).scatter_reduce(0, _question_of(starts, len(ranks)), values, "amax")


def precision_at_1(relevant: Tensor, ranks: Tensor, starts: Tensor) -> Tensor:
    """1 where the first row of a question is relevant, else 0, (Q,). Arguments as `average_precision`."""
    return relevant[starts].double()


RANKING_METRICS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "map": average_precision,
    "mrr": reciprocal_rank,
    "p_at_1": precision_at_1,
}


def mean_over_questions(name: str, scores: Tensor, relevant: Tensor, queries: Tensor) -> Tensor:
    """One metric, a scalar: the mean over the questions with a relevant row; NaN where there is none.

    Arguments as `values_of_questions`.

    >>> scores, relevant = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([False, True, False])
    >>> mean_over_questions("mrr", scores, relevant, torch.tensor([7, 7, 7]))
    tensor(0.5000, dtype=torch.float64)
    """
    return values_of_questions(name, scores, relevant, queries).mean()


def values_of_questions(name: str, scores: Tensor, relevant: Tensor, queries: Tensor) -> Tensor:
    """One metric of each question with a relevant row, in the order of their numbers, (Q,) float64.

    Scores (N,): higher is better; relevant (N,) bool; queries, the question of each row, (N,): rows below 0 do not
    count.
    """
    relevant, queries = ranked_rows(scores, relevant, queries)
    ranks, starts = ranks_of(queries)
    values = RANKING_METRICS[name](relevant, ranks, starts)
    return values[_sum(relevant.double(), starts) > 0]


def ranked_rows(scores: Tensor, relevant: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """`relevant` and `queries` of the rows that count, question by question, the best-ranked row of each first."""
    counted = queries >= 0
    scores, relevant, queries = scores[counted], relevant[counted], queries[counted]
    # Three stable sorts, the last one first in rank: by question, then by score, then irrelevant before relevant.
    order = relevant.int().argsort(stable=True)
    order = order[scores[order].argsort(descending=True, stable=True)]
    order = order[queries[order].argsort(stable=True)]
    return relevant[order], queries[order]


def ranks_of(queries: Tensor) -> tuple[Tensor, Tensor]:
    """Rank of each row within its question from 1 (N,), and where each question starts (Q,); rows as `ranked_rows`."""
    fresh = torch.ones_like(queries, dtype=torch.bool)
    fresh[1:] = queries[1:] != queries[:-1]
    starts = fresh.nonzero().squeeze(-1)
    places = torch.arange(len(queries), device=queries.device)
    return places - starts.repeat_interleave(_sizes(starts, len(queries))) + 1, starts


def _sizes(starts: Tensor, total: int) -> Tensor:
    """Rows of each question (Q,)."""
    return torch.diff(starts, append=starts.new_tensor([total]))


def _question_of(starts: Tensor, total: int) -> Tensor:
    """Number of each row's question (N,), from 0."""
    sizes = _sizes(starts, total)
    return torch.arange(len(starts), device=starts.device).repeat_interleave(sizes)


def _sum(values: Tensor, starts: Tensor) -> Tensor:
    """Sum over each question's rows, (Q,)."""
    return values.new_zeros(len(starts)).scatter_add(0, _question_of(starts, len(values)), values)
