"""What a sample of each class weighs in the loss: given numbers, or balanced by the training rows."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from mebert.errors import UserError

__all__ = ["first_class_weights", "train_labels"]


def first_class_weights(setting: list[float] | Literal["balanced"] | None, num_labels: int) -> Tensor | None:
    """The weights (C,) as far as they are known before there is data: ones for `balanced`, None for none.

    Args:
        setting: The module's `class_weights`.
        num_labels: C.

    Raises:
        UserError: Not one positive weight a class, or a regression.
    """
    if setting is None:
        return None
    if num_labels == 1:
        raise UserError(f"class_weights ({setting}) is for classes; a regression (num_labels 1) has none")
    if setting == "balanced":
        return torch.ones(num_labels)
    if len(setting) != num_labels or not all(0 < weight < float("inf") for weight in setting):
        raise UserError(
            f"class_weights must hold {num_labels} numbers above 0, one a class, or be balanced; got {setting}"
        )
    return torch.tensor(setting)


def train_labels(datamodule: Any) -> Tensor:
    """The labels of all training rows, (N,) int64.

    Args:
        datamodule: One of mebert, set up for training; or anything else, or None.

    Raises:
        UserError: It does not hold its training labels.
    """
    labels = getattr(getattr(datamodule, "splits", {}).get("train"), "labels", None)
    if labels is None:
        raise UserError(
            "class_weights balanced needs a data module of mebert (splits['train'].labels); give the weights as numbers"
        )
    return torch.as_tensor(labels)
