"""The logits of an external teacher over the training rows, computed once and kept in the cache.

The teacher lives only while they are computed: it is no part of the module that learns from it, of its optimiser or
of its checkpoint. Shapes: N training rows, B batch, C classes.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from mebert.data.scoring import score_split
from mebert.data.tokenised import Item, TokenisedSplit, check_tokenizer
from mebert.errors import UserError
from mebert.models.encoder import EncoderAdapter
from mebert.modules.teacher_sources import Teacher, TeacherSource, find_teacher
from mebert.runtime.progress import rows_pass
from mebert.storage.atomic import atomic_path
from mebert.storage.hub import hub_errors

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from mebert.data.tokenised import TokenisedSplit

__all__ = ["TeacherLogits", "label_order", "read_logits", "table_key", "table_path", "write_logits"]

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
    """Write a table (N, C), whole or not at all."""
    from safetensors.torch import save_file

    with atomic_path(path) as unfinished:
        save_file({TABLE: logits.contiguous()}, unfinished)


SPLIT = "train"

_Rows = tuple[TokenisedSplit, Callable[[Sequence[Item]], dict[str, Tensor]]]


class TeacherLogits:
    """What a frozen teacher says of every training row.

    Args:
        teacher: Hub id or folder of a classifier with the data's labels, folder or Hub id of a saved mebert model, or a
            checkpoint of mebert; of the models of mebert the last exit teaches.

    Attributes:
        logits: (N, C) float32 on the CPU, in the order of the training split, once prepared.
    """

    def __init__(self, teacher: str) -> None:
        self.teacher = teacher
        self.logits: Tensor | None = None
        self._by_row: Tensor | None = None

    def prepare(self, trainer: L.Trainer) -> None:
        """Read the logits from the cache or compute them, every process its share; all end with the same table.

        Called on every process, after the data has been set up.

        Raises:
            UserError: The teacher cannot be had or does not fit the data, or the data cannot be tokenised for it.
        """
        started = time.perf_counter()
        data = _with_texts(trainer, self.teacher)
        source = find_teacher(self.teacher)
        order, note = label_order(self.teacher, source.label_names, source.num_labels, data.label_names)
        if note:
            rank_zero_info(note)
        path: Path | None = None
        rows: _Rows | None = None
        kept: Tensor | None = None
        if trainer.is_global_zero:
            rows = _rows_for(source, data)
            settings = [self.teacher, source.identity(), str(data.max_length), str(trainer.precision)]
            path = table_path(self.teacher, table_key(rows[0], [*settings, *data.label_names]))
            kept = read_logits(path)
        # The table itself, not its path: the other processes may be on machines without this file.
        logits = trainer.strategy.broadcast(kept)
        found = logits is not None
        if logits is None:
            computed = _compute(trainer, source, rows or _rows_for(source, data), data.eval_batch_size)
            logits = computed[:, order].contiguous()
            if path is not None:
                write_logits(path, logits)
        rank_zero_info(
            f"Teacher {self.teacher}: logits of {len(logits):,} training rows {'read' if found else 'computed'} "
            f"in {time.perf_counter() - started:.1f} s ({'from' if found else 'kept in'} {path})"
        )
        self._hold(logits, torch.from_numpy(data.split(SPLIT).index))

    def for_batch(self, index: Tensor) -> Tensor:
        """The logits of a training batch.

        Args:
            index: Row numbers (B,) as in the batch.

        Returns:
            (B, C) float32, on the device of `index`; NaN for a row that is not in the training split.
        """
        if self._by_row is None:
            raise RuntimeError("the teacher's logits are not there yet: call prepare(trainer) before training")
        if self._by_row.device != index.device:
            self._by_row = self._by_row.to(index.device)
        return self._by_row[index]

    def _hold(self, logits: Tensor, index: Tensor) -> None:
        self.logits = logits
        # By row number of the raw split, so that a batch finds its rows by one look-up on the device.
        self._by_row = logits.new_full((int(index.max()) + 1, logits.shape[1]), torch.nan)
        self._by_row[index] = logits


def _with_texts(trainer: L.Trainer, teacher: str) -> Any:
    """The data module, which must have texts, for the teacher has a tokenizer of its own."""
    data = getattr(trainer, "datamodule", None)
    if not all(hasattr(data, name) for name in ("tokenised_with", "label_names")):
        given = "plain loaders" if data is None else type(data).__name__
        raise UserError(
            f"teacher {teacher!r} reads the texts of the training rows, and {given} cannot give them; "
            "train with a TextDataModule (or a subclass) as datamodule"
        )
    return data


def _tokenizer(source: TeacherSource, data: Any) -> PreTrainedTokenizerBase:
    """The teacher's own tokenizer; that of the data for a checkpoint that came without one."""
    from transformers import AutoTokenizer

    if source.tokenizer is None:
        rank_zero_info(f"Teacher {source.name}: it came without a tokenizer, so it reads the tokens of the data's own")
        return data.tokenizer
    with hub_errors(f"the tokenizer of teacher {source.name!r}"):
        tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, trust_remote_code=False)
    # transformers makes an empty tokenizer where it finds no files: every word would be unknown.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(f"teacher {source.name!r} has no tokenizer in {source.tokenizer}; save its tokenizer there")
    check_tokenizer(tokenizer, source.tokenizer, data.max_length)
    return tokenizer


def _rows_for(source: TeacherSource, data: Any) -> _Rows:
    """The training rows in the teacher's tokens, in the order of the data's own training split, and their collation."""
    tokenizer = _tokenizer(source, data)
    return data.tokenised_with(SPLIT, tokenizer, data.max_length), data.collate_for(tokenizer)


def _compute(trainer: L.Trainer, source: TeacherSource, rows: _Rows, batch_size: int) -> Tensor:
    """The teacher's logits (N, its classes) of all training rows; the teacher is gone afterwards."""
    split, collate_batch = rows
    rank_zero_info(f"Teacher {source.name}: computing its logits of {len(split):,} training rows, once")
    # Building draws weights that are then overwritten; training must not depend on whether the cache had the table.
    with isolate_rng():
        teacher = source.build().to(trainer.strategy.root_device)
    _check_fit(teacher, split, source.name)
    with rows_pass("the teacher reads the training rows", trainer, len(split), batch_size) as bar:
        logits = score_split(trainer, split, collate_batch, teacher, batch_size, bar.tick)
    del teacher
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return logits


def _check_fit(teacher: Teacher, split: TokenisedSplit, name: str) -> None:
    """Refuse rows that the teacher's embeddings do not hold: an accelerator would only say that an assertion failed."""
    config = teacher.config
    tokens, known = int(split.tokens.max()), getattr(config, "vocab_size", None)
    if known is not None and tokens >= known:
        raise UserError(f"teacher {name!r} knows {known} tokens, but the tokenizer gives token {tokens}: not its own?")
    longest, positions = int(split.lengths.max()), getattr(config, "max_position_embeddings", None)
    if positions is not None:
        limit = positions - EncoderAdapter.position_offset.get(config.model_type, 0)
        if longest > limit:
            raise UserError(
                f"teacher {name!r} takes at most {limit} tokens, but a row has {longest}; lower data.max_length"
            )
