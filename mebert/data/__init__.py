"""Texts to batches: the task table, own files, the built-in task, the token cache, and the data modules over them."""

from mebert.data.datamodule import TextDataModule
from mebert.data.synthetic import SyntheticEntailmentDataModule
from mebert.storage.aliases import moved_names

__all__ = ["SyntheticEntailmentDataModule", "TextDataModule"]

__getattr__ = moved_names(__name__)
