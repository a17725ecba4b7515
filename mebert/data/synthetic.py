"""The built-in entailment task as a data module: `SyntheticSplits` for a trainer."""

from __future__ import annotations

from mebert.data.datamodule import TextDataModule
from mebert.data.synthetic_splits import SyntheticSplits, synthetic_splits, synthetic_tokenizer

__all__ = ["SyntheticEntailmentDataModule", "synthetic_splits", "synthetic_tokenizer"]


class SyntheticEntailmentDataModule(SyntheticSplits, TextDataModule):
    """Claims and facts with known difficulty as a data module; settings as in `SyntheticSplits`."""
