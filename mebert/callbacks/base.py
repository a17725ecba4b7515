"""The metric prefix of each split: `train`, `val`, `val_mismatched`, `test`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning import Trainer

__all__ = ["main_metrics", "stage_prefix"]


def stage_prefix(trainer: Trainer, stage: str, dataloader_idx: int = 0) -> str:
    """The prefix of a split's metrics, as its data module names it.

    Args:
        trainer: Its data module may have `validation_names` and `test_names`.
        stage: `train`, `val` or `test`.
        dataloader_idx: Which loader of the stage, from 0.
    """
    attribute = {"val": "validation_names", "test": "test_names"}.get(stage, "")
    names = getattr(getattr(trainer, "datamodule", None), attribute, None) or [stage]
    if dataloader_idx < len(names):
        return str(names[dataloader_idx])
    return f"{stage}_{dataloader_idx}"


def main_metrics(trainer: Trainer, num_labels: int) -> tuple[str, ...]:
    """The metrics that the data asks for, the main one first; accuracy (or Pearson) where it names none."""
    names = getattr(getattr(trainer, "datamodule", None), "metrics", None)
    if names:
        return tuple(names)
    return ("pearson", "spearman") if num_labels == 1 else ("acc",)
