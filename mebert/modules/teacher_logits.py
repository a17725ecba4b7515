"""The logits of an external teacher for the training rows, computed once and kept in the cache.

The teacher is freed afterwards: it is no part of the student module, its optimiser or its checkpoint.
Shapes: N training rows, B batch, C classes.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mebert.data.scoring import score_split
from mebert.data.tokenised import Item, TokenisedSplit
from mebert.data.tokenizers import check_tokenizer, load_tokenizer
from mebert.data.unlabelled import SPLIT as UNLABELLED
from mebert.errors import UserError
from mebert.models.encoder import EncoderAdapter
from mebert.models.families import adapters_by_family
from mebert.modules.teacher_labels import label_order
from mebert.modules.teacher_sources import SEVERAL, Teacher, TeacherSource, find_teacher
from mebert.runtime.messages import rank_zero_info
from mebert.runtime.progress import rows_pass
from mebert.storage.atomic import atomic_path

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_VERSION = "1"  # part of the key of a stored table: to be changed with its meaning
TABLE = "logits"
SPLIT = "train"

_Rows = tuple[TokenisedSplit, Callable[[Sequence[Item]], dict[str, Tensor]]]


def table_key(split: TokenisedSplit, settings: Sequence[str]) -> str:
    """The key of a table of logits: a digest of the split's tokens, rows and labels, and of `settings`."""
    digest = hashlib.sha256("\0".join([CACHE_VERSION, *settings]).encode())
    arrays: list[np.ndarray | None] = [split.tokens, split.offsets, split.token_types, split.index, split.labels]
    for array in arrays:
        # The type and the shape as well: bytes alone would not say where one array ends.
        digest.update(f"\0{None if array is None else (array.dtype.str, array.shape)}\0".encode())
        if array is not None:
            digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def table_path(teacher: str, key: str) -> Path:
    """The file of a table in the data sets' cache; its name shows the teacher."""
    import datasets

    readable = re.sub(r"[^A-Za-z0-9]+", "-", teacher).strip("-")[-40:].strip("-")
    return Path(datasets.config.HF_DATASETS_CACHE) / "mebert" / f"teacher-{readable}-{key}.safetensors"


def read_logits(path: Path) -> Tensor | None:
    """The table (N, C) of a file; None if the file is missing or damaged."""
    try:
        return load_file(path).get(TABLE)
    except (FileNotFoundError, SafetensorError):
        return None


class TeacherLogits:
    """The logits (N, C) of a frozen teacher (see `find_teacher`) for every training row, in the order of the split.

    Of several labels a row (N, C, 2). Those of rows without a label follow. They are float32 on the CPU, once prepared.
    """

    def __init__(self, teacher: str) -> None:
        self.teacher = teacher
        self.logits: Tensor | None = None
        self._by_row: Tensor | None = None

    def prepare(self, trainer: L.Trainer) -> None:
        """Read the logits from the cache or compute them, every process its share; all end with the same table.

        Called on every process, after the data has been set up. Raises a UserError where the teacher does not fit.
        """
        data = _with_texts(trainer, self.teacher)
        source = find_teacher(self.teacher)
        if source.multi_label != (getattr(data, "problem_type", None) == SEVERAL):
            kinds = "several labels a row", "one label a row"
            its, own = kinds if source.multi_label else kinds[::-1]
            raise UserError(f"teacher {self.teacher!r} is for {its}, the data has {own}; give a teacher of this task")
        order, note = label_order(self.teacher, source.label_names, source.num_labels, data.label_names)
        if note:
            rank_zero_info(note)
        names = [SPLIT, *([UNLABELLED] if getattr(data, "unlabelled_file", None) else [])]
        self.logits = torch.cat([self._table(trainer, source, data, order, name) for name in names])
        index = torch.from_numpy(np.concatenate([data.split(name).index for name in names]))
        # By row number of the raw split, so that a batch finds its rows by one look-up on the device.
        self._by_row = self.logits.new_full((int(index.max()) + 1, *self.logits.shape[1:]), torch.nan)
        self._by_row[index] = self.logits

    def _table(self, trainer: L.Trainer, source: TeacherSource, data: Any, order: list[int], name: str) -> Tensor:
        """The logits (n, C) for the rows of one split."""
        started = time.perf_counter()
        path: Path | None = None
        rows: _Rows | None = None
        kept: Tensor | None = None
        if trainer.is_global_zero:
            rows = _rows_for(source, data, name)
            settings = [self.teacher, source.identity(), str(data.max_length), str(trainer.precision)]
            path = table_path(self.teacher, table_key(rows[0], [*settings, *data.label_names]))
            kept = read_logits(path)
        # The table itself, not its path: the other processes may be on machines without this file.
        logits = trainer.strategy.broadcast(kept)
        found = logits is not None
        if logits is None:
            computed = _compute(trainer, source, rows or _rows_for(source, data, name), data.eval_batch_size)
            logits = computed[:, order].contiguous()
            if path is not None:
                with atomic_path(path) as unfinished:
                    save_file({TABLE: logits}, unfinished)
        rank_zero_info(
            f"Teacher {self.teacher}: logits of {len(logits):,} training rows {'read' if found else 'computed'} "
            f"in {time.perf_counter() - started:.1f} s ({'from' if found else 'kept in'} {path})"
        )
        return logits

    def for_batch(self, index: Tensor) -> Tensor:
        """The logits (B, C) of a batch's row numbers (B,); NaN for a row that is not in the training split."""
        if self._by_row is None:
            raise RuntimeError("the teacher's logits are missing: call prepare(trainer) before training")
        if self._by_row.device != index.device:
            self._by_row = self._by_row.to(index.device)
        return self._by_row[index]


def _with_texts(trainer: L.Trainer, teacher: str) -> Any:
    """The data module; it must have texts, since the teacher has its own tokenizer."""
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
    if source.tokenizer is None:
        rank_zero_info(f"Teacher {source.name}: it came without a tokenizer, so it reads the tokens of the data's own")
        return data.tokenizer
    try:
        tokenizer = load_tokenizer(source.tokenizer, **source.tokenizer_settings)
    except UserError as error:
        raise UserError(f"teacher {source.name!r}: {error}") from error
    check_tokenizer(tokenizer, source.tokenizer, data.max_length)
    return tokenizer


def _rows_for(source: TeacherSource, data: Any, name: str) -> _Rows:
    """The rows of a split in the teacher's tokens, in the order of the data's own, and their collation."""
    tokenizer = _tokenizer(source, data)
    return data.tokenised_with(name, tokenizer, data.max_length), data.collate_for(tokenizer)


def _compute(trainer: L.Trainer, source: TeacherSource, rows: _Rows, batch_size: int) -> Tensor:
    """The teacher's logits (N, its classes) for all training rows; the teacher is freed afterwards."""
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
    """Refuse rows that exceed the teacher's embeddings: an accelerator would only report a failed assertion."""
    config = teacher.config
    tokens, known = int(split.tokens.max()), getattr(config, "vocab_size", None)
    if known is not None and tokens >= known:
        raise UserError(f"teacher {name!r} knows {known} tokens, but the tokenizer gives token {tokens}: not its own?")
    longest, positions = (
        int(min(split.lengths.max(), split.window or np.inf)),
        getattr(config, "max_position_embeddings", None),
    )
    if positions is not None:
        limit = positions - adapters_by_family().get(config.model_type, EncoderAdapter).first_position(config)
        if longest > limit:
            raise UserError(
                f"teacher {name!r} takes at most {limit} tokens, but a row has {longest}; lower data.max_length"
            )
