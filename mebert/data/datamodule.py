"""The data module of text classification: `TextSplits` for a trainer."""

from __future__ import annotations

import lightning as L

from mebert.data.loaders import SplitLoaders
from mebert.data.text_splits import TextSplits


class TextDataModule(TextSplits, L.LightningDataModule):
    """Sentences or sentence pairs with labels as a data module; settings and methods to override as in `TextSplits`."""


class SplitDataModule(SplitLoaders, L.LightningDataModule):
    """Splits that are tokenised already as a data module."""

    # Lightning waits for all processes at one that is overridden, and cross-review trains its teachers in one alone.
    prepare_data = L.LightningDataModule.prepare_data
