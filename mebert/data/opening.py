"""One split of a data module, by name, outside of a Trainer."""

from __future__ import annotations

from mebert.data.loaders import SplitLoaders
from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError

__all__ = ["open_split"]

STAGES = {"train": "fit", "val": "validate", "test": "test"}


def open_split(data: SplitLoaders, split: str) -> TokenisedSplit:
    """The rows of a split, loaded and tokenised.

    Args:
        data: Any data module of texts.
        split: `train`, `val` or `test`, or one with a suffix, such as `val_mismatched`.

    Raises:
        UserError: No such split, or it cannot be had.
    """
    group = split.partition("_")[0]
    if group not in STAGES:
        raise UserError(f"split must be train, val or test (or such as val_mismatched), got {split!r}")
    data.setup(STAGES[group])
    return data.split(split)
