"""What a text gets: its label, the probabilities, and the exit at which it left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text.

    Attributes:
        label: The most probable label; None for regression, and where a text may have several.
        probabilities: Probability of each label; empty for regression.
        exit: The exit at which the text left, from 1.
        score: The predicted value, for regression; None for classification.
        labels: Where a text may have several labels, those with a probability above 0.5, in the model's order; else
            None.
    """

    label: str | None
    probabilities: dict[str, float]
    exit: int
    score: float | None = None
    labels: tuple[str, ...] | None = None


def prediction_of(logits: Sequence[Any], exit_number: int, names: Sequence[str], multi_label: bool) -> Prediction:
    """The prediction that the logits of one text say.

    Args:
        logits: One a label; one alone in a regression; where a text may have several labels, (no, yes) for each.
        exit_number: From 1.
        names: Of the labels.
        multi_label: Whether a text may have several labels.
    """
    if multi_label:
        # 1 / (1 + e^-z) in a form that does not overflow; e^-|z| is at most 1.
        margins = [yes - no for no, yes in logits]
        shares = [(1.0 if z >= 0 else math.exp(z)) / (1.0 + math.exp(-abs(z))) for z in margins]
        chosen = tuple(name for name, z in zip(names, margins, strict=True) if z > 0)
        return Prediction(None, dict(zip(names, shares, strict=True)), exit_number, labels=chosen)
    if len(names) == 1:
        return Prediction(None, {}, exit_number, logits[0])
    largest = max(logits)
    weights = [math.exp(value - largest) for value in logits]
    total = sum(weights)
    probabilities = {name: weight / total for name, weight in zip(names, weights, strict=True)}
    return Prediction(names[logits.index(largest)], probabilities, exit_number)
