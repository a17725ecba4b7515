"""Mean ranks over tasks: who is ahead, whatever the tasks' scales are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["mean_ranks", "ranks"]


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 for the largest value; equal values get the mean of their ranks.

    >>> ranks([0.7, 0.9, 0.7])
    [2.5, 1.0, 2.5]
    """
    return [sum(v > value for v in values) + (values.count(value) + 1) / 2 for value in values]


def mean_ranks(tables: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Name to its mean rank over tasks, the best first.

    Args:
        tables: For each task, name to value. Only names with a value on every task are ranked, and only among
            themselves, so that every rank is one of equally many.
    """
    names = [name for name in tables[0] if all(table.get(name) is not None for table in tables)] if tables else []
    sums = dict.fromkeys(names, 0.0)
    for table in tables:
        # To nine digits: sums in another order are no difference.
        for name, rank in zip(names, ranks([round(table[name] or 0.0, 9) for name in names]), strict=True):
            sums[name] += rank
    return {name: total / len(tables) for name, total in sorted(sums.items(), key=lambda item: item[1])}
