"""From difficulty and pacing to the order of an epoch's rows, as pure functions.

All randomness comes from the generator given, so that every process gets the same order. Shapes: N rows of the split.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

Direction = Literal["easy_first", "hard_first", "random"]

# The window of rows in use moves at most this often in an epoch: often enough to follow any pacing, seldom enough to
# order an epoch of a million rows in a second.
MOVES = 100


def rank_rows(
    difficulty: np.ndarray, direction: Direction, generator: np.random.Generator, classes: np.ndarray | None = None
) -> np.ndarray:
    """Return the rows in the order in which they come into use, (N,); ties are broken at random.

    A larger difficulty is harder; NaN, where it is not known, stands in the middle, and `random` ignores it. With
    classes (N,) rows are ranked within their class, and every part of the ranking holds the classes in equal shares.

    >>> rank_rows(np.array([3.0, 1.0, 2.0]), "easy_first", np.random.default_rng(0)).tolist()
    [1, 2, 0]
    """
    shuffled = generator.permutation(len(difficulty))
    if direction == "random":
        return shuffled
    values = np.asarray(difficulty, dtype=np.float64)[shuffled]
    unknown = np.isnan(values)
    if unknown.any():
        values[unknown] = np.median(values[~unknown]) if not unknown.all() else 0.0
    if direction == "hard_first":
        values = -values
    order = np.argsort(values, kind="stable")
    if classes is not None:
        in_order = classes[shuffled][order]
        places = np.empty(len(order))  # each row's place among those of its class, as a share in (0, 1)
        for label in np.unique(in_order):
            members = in_order == label
            places[members] = (np.arange(members.sum()) + 0.5) / members.sum()
        order = order[np.argsort(places, kind="stable")]
    ranked: np.ndarray = shuffled[order]
    return ranked


def draw_rows(
    ranked: np.ndarray,
    num_rows: int,
    batch: int,
    window: Callable[[float], tuple[float, float]],
    generator: np.random.Generator,
) -> np.ndarray:
    """Draw an epoch's rows, batch by batch from the window of the ranking (N,) that is in use, (num_rows,).

    Within an epoch no row of the window is drawn again before all of them have been drawn; with the whole ranking in
    use that is a plain shuffled pass. `window` maps a time in [0, 1) of this epoch to the part in use, as shares (low,
    high) of the ranking; it holds at least the rows of a global batch, where there are as many.
    """
    total = len(ranked)
    fewest = min(batch, total)
    batches = -(-num_rows // batch)
    stride = max(1, batches // MOVES)
    drawn = np.zeros(total, dtype=bool)  # by place in the ranking
    parts = []
    for start in range(0, batches, stride):
        low_share, high_share = window(start / batches)
        high = min(max(round(high_share * total), fewest), total)
        low = max(min(round(low_share * total), high - fewest), 0)
        missing = min((start + stride) * batch, num_rows) - start * batch
        while missing:
            places = low + np.flatnonzero(~drawn[low:high])
            if len(places) <= missing:  # used up: all of the window may be drawn again
                chosen = generator.permutation(places)
                drawn[low:high] = False
            else:
                chosen = generator.choice(places, missing, replace=False)
                drawn[chosen] = True
            parts.append(chosen)
            missing -= len(chosen)
    return ranked[np.concatenate(parts)]
