"""Texts to batches: the task table, own files, the built-in task, the token cache, and the data modules over them."""

from mebert.storage.aliases import lazy_names

MODULES = {"SyntheticEntailmentDataModule": "mebert.data.synthetic", "TextDataModule": "mebert.data.datamodule"}

__all__ = ["SyntheticEntailmentDataModule", "TextDataModule"]

__getattr__ = lazy_names(__name__, MODULES)
