"""Texts to batches: the task table, own files, the built-in task, the token cache, and the data modules over them."""

from importlib import import_module
from typing import Any

from mebert.storage.aliases import moved_names

_MODULES = {"SyntheticEntailmentDataModule": "mebert.data.synthetic", "TextDataModule": "mebert.data.datamodule"}
_moved = moved_names(__name__)

__all__ = ["SyntheticEntailmentDataModule", "TextDataModule"]


def __getattr__(name: str) -> Any:
    return getattr(import_module(_MODULES[name]), name) if name in _MODULES else _moved(name)
