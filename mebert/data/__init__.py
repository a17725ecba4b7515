"""Data: the task table, own files, the synthetic task, and the data modules that turn them into batches."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "CurriculumDataModule": "mebert.curriculum.datamodule",
    "SyntheticCurriculumDataModule": "mebert.curriculum.datamodule",
    "SyntheticEntailmentDataModule": "mebert.data.synthetic",
    "TextDataModule": "mebert.data.datamodule",
}

__all__ = [
    "CurriculumDataModule",
    "SyntheticCurriculumDataModule",
    "SyntheticEntailmentDataModule",
    "TextDataModule",
]

if TYPE_CHECKING:
    from mebert.curriculum.datamodule import CurriculumDataModule, SyntheticCurriculumDataModule
    from mebert.data.datamodule import TextDataModule
    from mebert.data.synthetic import SyntheticEntailmentDataModule


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
