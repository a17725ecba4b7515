"""Texts to batches: the task table, own files, the built-in task, the token cache, and the data modules over them."""

from mebert.data.datamodule import TextDataModule
from mebert.data.synthetic import SyntheticEntailmentDataModule

__all__ = ["SyntheticEntailmentDataModule", "TextDataModule"]
