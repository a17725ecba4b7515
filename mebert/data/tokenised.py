"""Token ids of a split, computed once and kept in the cache, and the batches made of them.

Shapes: N rows of the split, B batch, S tokens of the longest row in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mebert.data.file_rows import LINE_COLUMN
from mebert.data.files import cache_folder
from mebert.data.rows import Rows, arrow_column
from mebert.data.samplers import PADDING_ROW
from mebert.data.tokenizers import encode_texts, tokenizer_key
from mebert.storage.atomic import atomic_path

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

# Changes with the meaning of the cached columns, so that an older cache is not read as the new one.
CACHE_VERSION = "2"

MAP_FROM = 32_000_000
"""Bytes from which on the token ids of a split stay on disk, mapped into memory."""

Item = dict[str, Any]
Batch = dict[str, torch.Tensor]


@dataclass
class TokenisedSplit(Dataset[Item]):
    """Rows as token ids in flat arrays, which loader processes share without a copy; large ones are mapped from disk.

    Args:
        tokens: Token ids of all rows, one after the other.
        offsets: Where each row starts (N+1,).
        token_types: Segment ids like `tokens`, or None where the tokenizer has none.
        index: Row numbers in the raw split (N,).
        labels: (N,) int64, or float32 in a regression, or (N, C) int64 of 0 and 1 where rows have several, or None.
        difficulty: (N,) int64, or None.
        queries: Question that each row answers (N,) int64, from 0; -1 where its answers are all right or all wrong,
            so that they cannot be ranked. None where answers are not ranked.
        window: Longer rows are windows of that many tokens, one after the other, the last of them shorter; None: a row
            is one input.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    token_types: np.ndarray | None
    index: np.ndarray
    labels: np.ndarray | None = None
    difficulty: np.ndarray | None = None
    queries: np.ndarray | None = None
    window: int | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row (N,), special tokens included."""
        return np.diff(self.offsets)

    @property
    def is_regression(self) -> bool:
        """Whether the labels are numbers to be estimated."""
        return self.labels is not None and self.labels.dtype.kind == "f"

    @property
    def is_multi_label(self) -> bool:
        """Whether a row may have several labels."""
        return self.labels is not None and self.labels.ndim == 2

    def select(self, rows: np.ndarray) -> TokenisedSplit:
        """Return a split of some rows, which keep their `index`."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        by_row = {name: getattr(self, name) for name in ("index", "labels", "difficulty", "queries")}
        changes = {name: values[rows] for name, values in by_row.items() if values is not None}
        types = None if self.token_types is None else self.token_types[places]
        return replace(self, tokens=self.tokens[places], offsets=offsets, token_types=types, **changes)

    def __getitem__(self, row: int) -> Item:
        """Return one row; for `PADDING_ROW` the content of the first row under that index."""
        place = 0 if row == PADDING_ROW else row
        span = slice(self.offsets[place], self.offsets[place + 1])
        index = PADDING_ROW if row == PADDING_ROW else self.index[place]
        item: Item = {"input_ids": self.tokens[span], "index": index, "window": self.window}
        if self.token_types is not None:
            item["token_type_ids"] = self.token_types[span]
        columns = {"labels": self.labels, "difficulty": self.difficulty, "query": self.queries}
        return item | {name: values[place] for name, values in columns.items() if values is not None}


def collate(
    items: Sequence[Item], pad_token_id: int, pad_token_type_id: int = 0, pad_to_multiple_of: int | None = None
) -> Batch:
    """Pad rows to the longest of them and stack them.

    Returns input_ids, attention_mask and token_type_ids (B, S), and index, labels (of several a row: (B, C)),
    difficulty and query (B,), as far as the rows have them. Where a row has several windows, the first three are
    (B, W, S) for W windows of S tokens. Rows without a label stand after those with one; labels, difficulty and query
    are then as long as there are such.
    """
    longest, window = max(len(item["input_ids"]) for item in items), items[0].get("window")
    windows: tuple[int, ...] = ()
    if window is not None and longest > window:
        longest = -(-longest // window) * window  # all windows but a row's last are full
        windows = (longest // window, window)
    elif pad_to_multiple_of is not None:
        longest = -(-longest // pad_to_multiple_of) * pad_to_multiple_of
    fills = {"input_ids": pad_token_id, "attention_mask": 0}
    if "token_type_ids" in items[0]:
        fills["token_type_ids"] = pad_token_type_id
    padded = {name: np.full((len(items), longest), fill, dtype=np.int64) for name, fill in fills.items()}
    for row, item in enumerate(items):
        for name, values in padded.items():
            values[row, : len(item["input_ids"])] = item.get(name, 1)  # rows have no attention_mask: 1 for each token
    shape = (len(items), *(windows or (longest,)))
    batch = {name: torch.from_numpy(values.reshape(shape)) for name, values in padded.items()}
    for name in ("labels", "index", "difficulty", "query"):
        if name in items[0]:
            batch[name] = torch.from_numpy(np.asarray([item[name] for item in items if name in item]))
    return batch


def tokenise(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    text_columns: Sequence[str],
    name: str,
    stride: int | None = None,
) -> TokenisedSplit:
    """Return the token ids of the rows, from the cache where they have been computed before.

    Rows of a file or of the Hub are cached, those made in memory are not. `stride` as in `encode_texts`; without one,
    of a pair the longer text is cut first. `name` stands before the progress bar.
    """
    import datasets

    table = rows.table if rows.is_whole else rows.table.select(rows.chosen)
    has_types = "token_type_ids" in tokenizer.model_input_names
    features = {"input_ids": datasets.List(datasets.Value("int32"))}
    if has_types:
        features["token_type_ids"] = datasets.List(datasets.Value("int8"))
    key = _cache_key(rows, tokenizer, max_length, text_columns, stride)
    cache_file = None
    if rows.table.cache_files or LINE_COLUMN in rows.table.column_names:
        cache_folder().mkdir(parents=True, exist_ok=True)
        cache_file = str(cache_folder() / f"tokens-{key}.arrow")
    mapped = table.map(
        partial(encode, tokenizer=tokenizer, max_length=max_length, text_columns=text_columns, stride=stride),
        batched=True,
        remove_columns=table.column_names,
        features=datasets.Features(features),
        new_fingerprint=key,
        cache_file_name=cache_file,
        desc=f"Tokenising {name}",
    )
    tokens, offsets = _flat(mapped, "input_ids")
    return TokenisedSplit(
        tokens=tokens,
        offsets=offsets,
        token_types=_flat(mapped, "token_type_ids")[0] if has_types else None,
        index=rows.chosen.astype(np.int64),
        labels=None if rows.labels is None else rows.labels[rows.chosen],
        difficulty=rows.difficulty(),
        queries=rows.rankable_queries(),
        window=None if stride is None else max_length,
    )


def encode(
    batch: dict[str, list[str | None]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    text_columns: Sequence[str],
    stride: int | None = None,
) -> dict[str, list[list[int]]]:
    """Tokenise a batch of texts, by column, without padding."""
    return encode_texts(tokenizer, [[text or "" for text in batch[name]] for name in text_columns], max_length, stride)


def _cache_key(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    text_columns: Sequence[str],
    stride: int | None,
) -> str:
    """Return what identifies the token ids: rows, tokenizer and settings."""
    length = str(max_length) if stride is None else f"{max_length} with stride {stride}"
    settings = [CACHE_VERSION, tokenizer_key(tokenizer), length, *text_columns]
    digest = hashlib.sha256("\0".join(settings).encode())
    digest.update(rows.table._fingerprint.encode())
    if not rows.is_whole:
        digest.update(rows.chosen.astype(np.int64).tobytes())
    return digest.hexdigest()[:32]


def _flat(table: datasets.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a list column, one row after the other, and where each row starts (N+1,).

    Many values of a cached table are written beside it as one array, once, and mapped: all processes of a machine read
    the same pages.
    """
    chunks = arrow_column(table, name).chunks
    lengths = np.concatenate([chunk.value_lengths().to_numpy() for chunk in chunks])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    dtype = np.dtype(table.features[name].feature.dtype)
    if not table.cache_files or offsets[-1] * dtype.itemsize < MAP_FROM:
        return np.concatenate([chunk.flatten().to_numpy() for chunk in chunks]), offsets
    path = Path(table.cache_files[0]["filename"]).with_suffix(f".{name}.npy")
    if not path.exists():
        with atomic_path(path) as unfinished:
            mapped = np.lib.format.open_memmap(unfinished, "w+", dtype, (int(offsets[-1]),))
            start = 0
            for chunk in chunks:
                values = chunk.flatten().to_numpy()
                mapped[start : start + len(values)] = values
                start += len(values)
            mapped.flush()
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray), offsets
