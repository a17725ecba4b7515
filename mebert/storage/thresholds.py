"""What a threshold is: one number for all exits, or one for each exit but the last (E exits)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mebert.errors import UserError, brief

Threshold = float | tuple[float, ...]
"""A sample leaves where its score is below it: one number for all exits, or E - 1 numbers. The last exit needs none."""


def as_threshold(value: Any) -> Threshold:
    """A threshold from plain values, a number or a list of numbers; a list of zeros is 0, the full depth."""
    if not isinstance(value, list | tuple):
        return float(value)
    return tuple(float(one) for one in value) if any(value) else 0.0


def read_threshold(text: str) -> Threshold:
    """A threshold from `threshold_text`; a ValueError if it is none."""
    return as_threshold(json.loads(text)) if text.startswith("[") else float(text)


def numbers_of(threshold: Threshold) -> tuple[float, ...]:
    """Its number, or its numbers."""
    return threshold if isinstance(threshold, tuple) else (threshold,)


def threshold_at(threshold: Threshold, exit_index: int) -> float:
    """The number that counts at an exit (0-based) before the last."""
    return threshold[exit_index] if isinstance(threshold, tuple) else threshold


def same_threshold(a: Threshold, b: Threshold) -> bool:
    """Whether two are equal but for rounding."""
    pairs = list(zip(numbers_of(a), numbers_of(b), strict=False))
    alike = isinstance(a, tuple) == isinstance(b, tuple) and len(numbers_of(a)) == len(numbers_of(b))
    return alike and all(abs(x - y) < 1e-9 for x, y in pairs)


def threshold_text(threshold: Threshold, digits: int = 4) -> str:
    """It in words, as options take it: in four digits, or as many as show that a number is not 1.

    >>> threshold_text((0.1, 0.25)), threshold_text(0.123456)
    ('[0.1,0.25]', '0.1235')
    """

    def text(number: float) -> str:
        shown = next((n for n in range(digits, 17) if number == 1.0 or float(f"{number:.{n}g}") != 1.0), 17)
        return f"{number:.{shown}g}"

    found = ",".join(map(text, numbers_of(threshold)))
    return f"[{found}]" if isinstance(threshold, tuple) else found


def check_threshold(name: str, threshold: float | Sequence[float] | None) -> None:
    """Raise a UserError for a threshold (of an option) that is not in [0, 1]."""
    if threshold is None:
        return
    if isinstance(threshold, Sequence) and not threshold:
        raise UserError(f"{name} is an empty list: give a number, or one for each exit but the last")
    for number in numbers_of(as_threshold(threshold)):
        if not 0.0 <= number <= 1.0:
            raise UserError(f"{name} must be in [0, 1], got {brief(threshold)}")


def check_exits(threshold: Threshold, num_exits: int, where: str = "threshold") -> None:
    """Raise a UserError for a threshold with more or fewer numbers than a model has exits before the last."""
    if isinstance(threshold, tuple) and len(threshold) != num_exits - 1:
        raise UserError(
            f"{where} has {len(threshold)} number(s), but the model has {num_exits} exits: give one number, or "
            f"{num_exits - 1}, one for each exit but the last"
        )
