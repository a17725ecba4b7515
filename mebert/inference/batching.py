"""Which rows go together: length-sorted batches within a budget of tokens, over a window of rows.

Shapes: N rows of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mebert.errors import check_range

MOST_ROWS = 2**31 - 1


@dataclass(frozen=True)
class BatchPlan:
    """Limits of a batch.

    Args:
        max_batch: Most rows, at least 1.
        tokens_per_batch: Most tokens, padding included, at least 1; None: no limit. A longer row is a batch of its own.
    """

    max_batch: int = 32
    tokens_per_batch: int | None = None

    def __post_init__(self) -> None:
        check_range("batch_size", self.max_batch, 1, MOST_ROWS)
        check_range("tokens_per_batch", self.tokens_per_batch, 1)


def plan_batches(
    lengths: Sequence[int] | np.ndarray, tokens_per_batch: int | None = None, max_batch: int = 32
) -> list[np.ndarray]:
    """Cut the rows of a window into batches of similar length, the longest first.

    The longest first, so that memory is allocated once and running out of it shows at the start.

    Args:
        lengths: Tokens of each row, (N,).
        tokens_per_batch: Most tokens a batch, padding included (rows x the longest row); None: no limit.
        max_batch: Most rows a batch.

    Returns:
        Places in the window, one array (int64) a batch; every row is in exactly one.

    >>> [batch.tolist() for batch in plan_batches([3, 9, 4, 8, 5], max_batch=2)]
    [[1, 3], [4, 2], [0]]
    >>> [batch.tolist() for batch in plan_batches([3, 9, 4, 8, 5], tokens_per_batch=12)]
    [[1], [3], [4, 2], [0]]
    """
    plan = BatchPlan(max_batch, tokens_per_batch)
    values = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-values, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        size = plan.max_batch
        if plan.tokens_per_batch is not None:
            longest = max(1, int(values[order[start]]))
            size = min(size, max(1, plan.tokens_per_batch // longest))
        batches.append(order[start : start + size])
        start += size
    return batches
