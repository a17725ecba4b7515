"""Answer selection: rows that answer the same question belong together.

Shapes: N rows, Q questions.
"""

from __future__ import annotations

import numpy as np

__all__ = ["UNRANKED", "rankable", "take_queries"]

UNRANKED = -1


def rankable(queries: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Number the questions that can be ranked, those with a right and a wrong answer, from 0: (N,) int64.

    Rows of all other questions are `UNRANKED`: any order of their answers is as good, and the usual evaluation of
    WikiQA and TrecQA leaves them out.

    Args:
        queries: Question of each row (N,), any numbers.
        relevant: Whether each answer is right (N,).
    """
    _, question = np.unique(queries, return_inverse=True)
    total = np.bincount(question)
    right = np.bincount(question, weights=relevant)
    counts = (right > 0) & (right < total)
    numbers = np.where(counts, np.cumsum(counts) - 1, UNRANKED)
    return numbers[question].astype(np.int64)


def take_queries(
    queries: np.ndarray, count: int, generator: np.random.Generator, leave_one: bool = False
) -> np.ndarray:
    """Draw whole questions until they have `count` rows: whether each row is drawn (N,).

    Args:
        queries: Question of each row (N,), any numbers.
        count: Rows that are wanted, at least 1.
        generator: Draws the questions.
        leave_one: Stop before the last question, where there are two or more.
    """
    _, question = np.unique(queries, return_inverse=True)
    order = generator.permutation(question.max() + 1)
    rows = np.cumsum(np.bincount(question)[order])
    drawn = min(int(np.searchsorted(rows, count)) + 1, len(order))
    if leave_one and len(order) > 1:
        drawn = min(drawn, len(order) - 1)
    return np.isin(question, order[:drawn])
