"""Prediction of a file of any size in constant memory.

The file is read twice, a window of rows at a time: for the batches, and for the texts in the table of predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mebert.data.file_rows import file_rows, file_state
from mebert.data.files import as_text
from mebert.data.text_lines import describe_place
from mebert.data.text_warnings import TextCounts
from mebert.data.tokenizers import encode_texts
from mebert.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEAD = 1000  # rows that are checked before anything is computed
WINDOW = 32  # batches whose rows are sorted by length together
Row = tuple[int, int, list[Any]]  # number from 0, line (or row) in the file, values


class FileStream:
    """The rows of a file, one after another; `columns`, which are texts, include the one or two `text_columns`.

    Columns that are only `carried` along keep the values that the file has. Whatever reads it raises a UserError once
    the file is not as it was at the beginning.
    """

    def __init__(
        self, path: str, columns: Sequence[str], text_columns: Sequence[str], carried: Sequence[str] = ()
    ) -> None:
        self.path, self.state = path, file_state(path)
        self._texts = tuple(columns)
        self.columns = tuple(dict.fromkeys((*columns, *carried)))
        self.places = [self.columns.index(name) for name in text_columns]
        self._second: Iterator[Row] | None = None  # the second reading, and the number of its next row
        self._next = 0

    def check(self) -> None:
        """Raise a UserError where the first rows are malformed, or have no text in one of the columns."""
        head = list(islice(self.rows(), HEAD))
        for place, name in enumerate(self._texts):
            if all(values[place] is None for _, _, values in head):
                raise UserError(f"{self.path}: no row of the first {len(head)} has a text in {name!r}; name its column")

    def rows(self) -> Iterator[Row]:
        """Yield each row, its values in the order of `columns`; a malformed line raises when it is reached."""
        for index, (number, values) in enumerate(file_rows(self.path, self.columns, self.state)):
            texts = [as_text(v, name, self.path, number) for name, v in zip(self._texts, values, strict=False)]
            yield index, number, [*texts, *values[len(texts) :]]

    def cells(self, indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return some rows by column, for row numbers from 0 that rise within a call.

        If they do not rise from call to call, the file is read from its start again.
        """
        if self._second is None or (indices and indices[0] < self._next):
            self._second, self._next = self.rows(), 0
        found: dict[str, list[Any]] = {name: [] for name in self.columns}
        for index in indices:
            row = next(islice(self._second, index - self._next, None), None)
            if row is None:
                raise UserError(f"{self.path} has only {index} rows now, fewer than were predicted: run it again")
            _, _, values = row
            self._next = index + 1
            for name, value in zip(self.columns, values, strict=True):
                found[name].append(value)
        self.state.check(self.path)  # a table of all rows never reaches the end of the file
        return found


@dataclass(eq=False)
class StreamedBatches(IterableDataset[dict[str, torch.Tensor]]):
    """Batches of a stream for one process, of similar length within a window.

    Of W processes, process r has the rows r, r + W, r + 2 W, ..., which its loader's workers share in the same way.
    """

    stream: FileStream
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    collate_batch: Callable[[Sequence[Any]], dict[str, torch.Tensor]]
    batch_size: int
    replicas: int = 1
    rank: int = 0
    stride: int | None = None

    def loader(self, num_workers: int) -> DataLoader[dict[str, torch.Tensor]]:
        """Return what Lightning iterates over."""
        return DataLoader(self, batch_size=None, num_workers=num_workers, pin_memory=torch.cuda.is_available())

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        own = islice(self.stream.rows(), self.rank + self.replicas * number, None, self.replicas * workers)
        counts = TextCounts()
        while window := list(islice(own, WINDOW * self.batch_size)):
            yield from self._batches(window, counts)

    def _batches(self, window: Sequence[Row], counts: TextCounts) -> Iterator[dict[str, torch.Tensor]]:
        texts = [[values[place] or "" for _, _, values in window] for place in self.stream.places]
        encoded = encode_texts(self.tokenizer, texts, self.max_length, self.stride)
        counts.add(
            texts, encoded["input_ids"], self.tokenizer, lambda row: describe_place(self.stream.path, window[row][1])
        )
        index, longest = [number for number, _, _ in window], None if self.stride is None else self.max_length
        items: list[dict[str, Any]] = [
            {"index": number, "window": longest} | {name: np.asarray(values[row]) for name, values in encoded.items()}
            for row, number in enumerate(index)
        ]
        items.sort(key=lambda item: -len(item["input_ids"]))
        for start in range(0, len(items), self.batch_size):
            yield self.collate_batch(items[start : start + self.batch_size])
