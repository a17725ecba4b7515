"""An external teacher's logits without the teacher: the order of its classes, and the table kept on disk.

Shapes: N rows of a split, C classes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mebert.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from mebert.data.tokenised import TokenisedSplit

__all__ = ["label_order", "read_logits", "table_key", "table_path", "write_logits"]

# Changes with the meaning of a stored table, so that an older one is not read as the new one.
CACHE_VERSION = "1"
TABLE = "logits"


def label_order(
    teacher: str, teacher_names: Sequence[str] | None, num_labels: int, task_names: Sequence[str]
) -> tuple[list[int], str | None]:
    """Where each class of the task is among the teacher's: by name, or by number where the teacher has no names.

    Args:
        teacher: What the user gave, for messages.
        teacher_names: Names in the order of the teacher's classes; None where it has none.
        num_labels: Classes of the teacher; 1 means regression.
        task_names: Names in the order of the task's classes (C,); one name for a regression.

    Returns:
        The teacher's class number of each class of the task (C,), and a line to tell the user where it is a guess.

    Raises:
        UserError: Other classes, or names that cannot be matched.

    >>> label_order("t", ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], 3, ["entailment", "neutral", "contradiction"])
    ([2, 1, 0], None)
    """
    shown = ", ".join(teacher_names or [f"{num_labels} without names"])
    both = f"its labels: {shown}; those of the data: {', '.join(task_names)}"
    if num_labels != len(task_names):
        raise UserError(f"teacher {teacher!r} has {num_labels} label(s), the data has {len(task_names)} ({both})")
    if num_labels == 1:
        return [0], None
    if teacher_names is not None:
        spellings: tuple[Callable[[str], str], ...] = (str.strip, lambda name: name.strip().casefold())
        for spell in spellings:
            places = {spell(name): number for number, name in enumerate(teacher_names)}
            wanted = [spell(name) for name in task_names]
            if len(places) == num_labels and set(wanted) == set(places):
                return [places[name] for name in wanted], None
        if not _generic(teacher_names):
            raise UserError(
                f"teacher {teacher!r}: its labels cannot be matched by name ({both}); "
                "give a teacher of this task, or name the labels of own files as the teacher does (data.labels)"
            )
    return list(range(num_labels)), f"Teacher {teacher}: its labels have no names, so they are taken in order ({both})"


def _generic(names: Sequence[str]) -> bool:
    """Names that only number the classes: LABEL_0, LABEL_1, ..., as Hugging Face writes them, or 0, 1, ..."""
    return all(re.fullmatch(rf"(label_)?{number}", name.strip().lower()) for number, name in enumerate(names))


def table_key(split: TokenisedSplit, settings: Sequence[str]) -> str:
    """What identifies a table of logits: what the teacher reads of the split, its rows and labels, and `settings`."""
    digest = hashlib.sha256("\0".join([CACHE_VERSION, *settings]).encode())
    arrays: list[np.ndarray | None] = [split.tokens, split.offsets, split.token_types, split.index, split.labels]
    for array in arrays:
        # The type and the shape as well: bytes alone would not say where one array ends.
        digest.update(f"\0{None if array is None else (array.dtype.str, array.shape)}\0".encode())
        if array is not None:
            digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def table_path(teacher: str, key: str) -> Path:
    """The file of a table in the data sets' cache, with what the user gave as teacher readable in its name."""
    import datasets

    readable = re.sub(r"[^A-Za-z0-9]+", "-", teacher).strip("-")[-40:].strip("-")
    return Path(datasets.config.HF_DATASETS_CACHE) / "mebert" / f"teacher-{readable}-{key}.safetensors"


def read_logits(path: Path) -> Tensor | None:
    """The table (N, C) of a file; None where there is none, or one that cannot be read and is to be made anew."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path).get(TABLE)
    except (FileNotFoundError, SafetensorError):
        return None


def write_logits(path: Path, logits: Tensor) -> None:
    """Write a table (N, C) under another name and rename it, so that no run finds half a file."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({TABLE: logits.contiguous()}, unfinished)
    unfinished.replace(path)
