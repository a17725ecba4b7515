"""How difficult a training sample is: measures of the data alone, and measures of the model's output for it.

Larger is harder. To add a measure, subclass `DataMeasure` (one method, from the rows) or `ModelMeasure` (one method,
from the logits) and give its `class_path`. Shapes: N samples of a split, B batch, E exits, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from mebert.errors import UserError
from mebert.metrics.task import same_labels
from mebert.storage.aliases import moved_names

if TYPE_CHECKING:
    from mebert.data.tokenised import TokenisedSplit


class DifficultyMeasure:
    """Base of all measures; subclass `DataMeasure` or `ModelMeasure` instead."""


class DataMeasure(DifficultyMeasure, ABC):
    """A measure that is known before training."""

    @abstractmethod
    def of_split(self, split: TokenisedSplit) -> np.ndarray:
        """Return the difficulty of every row, (N,)."""


class Length(DataMeasure):
    """Number of tokens."""

    def of_split(self, split: TokenisedSplit) -> np.ndarray:
        return split.lengths.astype(np.float64)


class WordRarity(DataMeasure):
    """How rare the tokens are: the sum of -ln p(token), p from the training split itself (Platanios et al. 2019).

    Args:
        average: Divide by the number of tokens, so that long texts are not harder only for being long.
    """

    def __init__(self, average: bool = False) -> None:
        self.average = average

    def of_split(self, split: TokenisedSplit) -> np.ndarray:
        counts = np.bincount(split.tokens)
        rarity = -np.log(np.maximum(counts, 1) / len(split.tokens))
        # Sums over rows as differences of one running sum.
        running = np.concatenate([[0.0], np.cumsum(rarity[split.tokens])])
        sums: np.ndarray = running[split.offsets[1:]] - running[split.offsets[:-1]]
        return sums / split.lengths if self.average else sums


class KnownDifficulty(DataMeasure):
    """The column `difficulty` of the data, which the built-in task has."""

    def of_split(self, split: TokenisedSplit) -> np.ndarray:
        if split.difficulty is None:
            raise UserError("difficulty KnownDifficulty needs rows with a column `difficulty`; this data has none")
        return split.difficulty.astype(np.float64)


class ModelMeasure(DifficultyMeasure, ABC):
    """A measure of the model in training: from the logits of the training steps, or of a pass of inference.

    Where a row has several labels, logits are (E, B, C, 2) and labels (B, C), 0 or 1.
    """

    fits_regression = False
    fits_multi_label = False

    @abstractmethod
    def of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the difficulty of each sample (B,), from the logits of all exits (E, B, C) and the labels (B,)."""


class _MeanOverExits(ModelMeasure):
    """A measure of one exit's logits, averaged.

    Args:
        exits: `mean` over all exits, or of the `last` alone.
    """

    def __init__(self, exits: Literal["mean", "last"] = "mean") -> None:
        self.exits = exits

    def of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        chosen = logits if self.exits == "mean" else logits[-1:]
        return self.per_exit(chosen.float(), labels).mean(0)

    @abstractmethod
    def per_exit(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the difficulty at each exit, (E, B)."""


class Loss(_MeanOverExits):
    """The current loss: cross-entropy (the mean over the labels of a row that has several), or the squared error."""

    fits_regression = True
    fits_multi_label = True

    def per_exit(self, logits: Tensor, labels: Tensor) -> Tensor:
        if logits.shape[-1] == 1:
            return (logits.squeeze(-1) - labels.float()).square()
        losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten().repeat(len(logits)), reduction="none")
        return losses.view(len(logits), len(labels), -1).mean(-1)


class Margin(_MeanOverExits):
    """The probability of the best wrong class minus that of the right one, in [-1, 1]."""

    def per_exit(self, logits: Tensor, labels: Tensor) -> Tensor:
        p = logits.softmax(-1)
        index = labels.view(1, -1, 1).expand(len(p), -1, 1)
        right = p.gather(-1, index).squeeze(-1)
        wrong = p.scatter(-1, index, -1.0).amax(-1)
        return wrong - right


class ExitDepth(ModelMeasure):
    """The first exit (0-based) from which the sample stays right; E where even the last exit is wrong."""

    fits_multi_label = True

    def of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        right = same_labels(logits.argmax(-1), labels).int()
        # How many exits, counted from the last one backwards, are right without a gap.
        return (len(right) - right.flip(0).cumprod(0).sum(0)).float()


class ExitErrorRate(ModelMeasure):
    """The share of the exits that are wrong, in [0, 1]."""

    fits_multi_label = True

    def of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (~same_labels(logits.argmax(-1), labels)).float().mean(0)


__getattr__ = moved_names(__name__)
