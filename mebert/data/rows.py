"""Rows of one split, chosen from the raw data: those with a label, those held out, a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mebert.data.file_rows import LINE_COLUMN
from mebert.data.labels import encode_label_sets, encode_labels
from mebert.data.text_warnings import BLANK, warn_of_share
from mebert.errors import UserError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa


def rankable(queries: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Number the queries (N,) with both a relevant and an irrelevant document from 0, and all others -1: (N,) int64.

    Any order of the others' documents is as good; the usual evaluation of WikiQA and TrecQA leaves them out.
    """
    _, question = np.unique(queries, return_inverse=True)
    total = np.bincount(question)
    right = np.bincount(question, weights=relevant)
    counts = (right > 0) & (right < total)
    numbers = np.where(counts, np.cumsum(counts) - 1, -1)
    return numbers[question].astype(np.int64)


def hold_out_queries(queries: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw whole questions (N,) until they have `count` rows, at least 1: whether each row is drawn (N,).

    The last question is not drawn, where there are two or more.
    """
    _, question = np.unique(queries, return_inverse=True)
    order = generator.permutation(question.max() + 1)
    rows = np.cumsum(np.bincount(question)[order])
    drawn = min(int(np.searchsorted(rows, count)) + 1, max(1, len(order) - 1))
    return np.isin(question, order[:drawn])


def stratified(labels: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
    """The row numbers of an `order` (N,), those first of which `count` have the classes of `labels` (N,) in proportion.

    Each class gives its share rounded down, and those with the largest remainders give more until `count` is reached.
    One row of each class is kept for the training, unless `count` needs all.

    >>> labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    >>> labels[stratified(labels, np.arange(10), 3)][:3]
    array([0, 0, 1])
    """
    classes, sizes = np.unique(labels, return_counts=True)
    wanted = sizes * (count / len(labels))
    given = np.minimum(np.floor(wanted).astype(int), sizes - 1)
    by_remainder = np.argsort(given - wanted, kind="stable")
    while given.sum() < count and (given < sizes - 1).any():
        for place in by_remainder:
            given[place] += given.sum() < count and given[place] < sizes[place] - 1
    in_order = labels[order]
    first = np.concatenate([np.flatnonzero(in_order == c)[:n] for c, n in zip(classes, given, strict=True)])
    if len(first) < count:  # the last rows of classes
        first = np.append(first, np.setdiff1d(np.arange(len(order)), first)[: count - len(first)])
    return np.append(order[np.sort(first)], np.delete(order, first))


def arrow_column(table: datasets.Dataset, name: str) -> pa.ChunkedArray:
    """Return a column (N,) in the order of the rows."""
    arrow: pa.Table = table.select_columns([name]).with_format("arrow")[:]
    return arrow.column(name)


@dataclass(frozen=True)
class Rows:
    """A selection of rows of a raw split.

    Args:
        table: The raw split of M rows.
        chosen: Row numbers (N,) in the raw split, rising.
        labels: Label of every raw row (M,), its set of labels (M, C), or None where labels do not matter.
        origin: The file or split in words, for messages.
        queries: Question that every raw row answers (M,), from 0, or None where answers are not ranked.
    """

    table: datasets.Dataset
    chosen: np.ndarray
    labels: np.ndarray | None
    origin: str
    queries: np.ndarray | None = None

    @classmethod
    def unlabelled(cls, table: datasets.Dataset, origin: str) -> Rows:
        return cls(table, np.arange(len(table)), None, origin)

    @classmethod
    def labelled(
        cls,
        table: datasets.Dataset,
        origin: str,
        label_column: str,
        label_names: Sequence[str],
        regression: bool,
        negative_is_hidden: bool,
        query_column: str | None = None,
        several: bool = False,
    ) -> Rows:
        """Select the rows that have a label; with `several` the column holds lists of labels, which may be empty."""
        require_columns(table, (label_column,), origin)
        column = arrow_column(table, label_column)

        def place(row: int) -> str:
            return describe_row(table, row, origin)

        if several:
            labels, has_label = encode_label_sets(column.to_pylist(), label_names, place)
        else:
            plain = column.null_count == 0 and not regression
            values = column.to_numpy() if plain else column.to_pylist()
            labels, has_label = encode_labels(
                values, label_names, place, regression=regression, negative_is_hidden=negative_is_hidden
            )
        queries = None if query_column is None else encode_queries(table, query_column, origin)
        return cls(table, np.flatnonzero(has_label), labels, origin, queries)

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def is_whole(self) -> bool:
        return len(self.chosen) == len(self.table)

    def hold_out(self, share: float, seed: int, stratify: bool = False) -> tuple[Rows, Rows]:
        """Split into the rows that stay and the share that is held out, both with at least one row.

        The answers to one question stay together, so that the share may be a little larger. With `stratify` every class
        has the same share in both parts, up to a row (answers, numbers and sets of labels: drawn as without).
        """
        if len(self) < 2:
            raise UserError(f"{self.origin} has {len(self)} row(s) with a label; holdout needs at least 2")
        count = min(max(round(share * len(self)), 1), len(self) - 1)
        generator = np.random.default_rng([seed, 1])
        if self.queries is not None:
            out = hold_out_queries(self.queries[self.chosen], count, generator)
            if out.all():
                raise UserError(f"{self.origin} answers one question only; holdout needs at least 2")
            return self._keep(np.flatnonzero(~out)), self._keep(np.flatnonzero(out))
        order = generator.permutation(len(self))
        if stratify and self.labels is not None and self.labels.dtype.kind == "i" and self.labels.ndim == 1:
            order = stratified(self.labels[self.chosen], order, count)
        return self._keep(order[count:]), self._keep(order[:count])

    def sample(self, count: int | None, seed: int) -> Rows:
        """Keep `count` rows drawn by the seed, of ranked answers that many whole questions; None: all of them."""
        if count is None or count >= len(self):
            return self
        _, group = np.unique(self.chosen if self.queries is None else self.queries[self.chosen], return_inverse=True)
        groups = int(group.max()) + 1
        drawn = np.random.default_rng([seed, 2]).permutation(groups)[:count]
        return self._keep(np.flatnonzero(np.isin(group, drawn)))

    @property
    def num_queries(self) -> int:
        """Number of questions that the chosen rows answer; 0 where answers are not ranked."""
        return 0 if self.queries is None else len(np.unique(self.queries[self.chosen]))

    def rankable_queries(self) -> np.ndarray | None:
        """Return the question of each chosen row (N,), as `TokenisedSplit.queries`."""
        if self.queries is None or self.labels is None:
            return None
        return rankable(self.queries[self.chosen], self.labels[self.chosen] > 0)

    def difficulty(self) -> np.ndarray | None:
        """Return the column `difficulty` of the chosen rows (N,) int64, if there is one."""
        import pyarrow as pa

        if "difficulty" not in self.table.column_names:
            return None
        column = arrow_column(self.table, "difficulty")
        if not pa.types.is_integer(column.type):  # the user's texts
            return None
        return column.to_numpy().astype(np.int64)[self.chosen]

    def _keep(self, positions: np.ndarray) -> Rows:
        return replace(self, chosen=self.chosen[np.sort(positions)])

    def check_texts(self, text_columns: Sequence[str], *, refuse_blank: bool) -> None:
        """Warn of texts that are missing, empty or blank, which become special tokens alone, or refuse them."""
        import pyarrow.compute as pc

        require_columns(self.table, text_columns, self.origin)
        blank = np.zeros(len(self.table), dtype=bool)
        for name in text_columns:
            start = 0
            for chunk in arrow_column(self.table, name).chunks:  # of a mapped table a part at a time is in memory
                trimmed = pc.utf8_trim_whitespace(pc.fill_null(chunk, ""))
                blank[start : start + len(chunk)] |= pc.equal(pc.utf8_length(trimmed), 0).to_numpy(zero_copy_only=False)
                start += len(chunk)
        found = blank[self.chosen]
        if refuse_blank and found.any():
            columns = " or ".join(repr(name) for name in text_columns)
            where = self.place(int(np.argmax(found)))
            raise UserError(f"{where}: the text in {columns} is empty or blank; fill it in or remove the row")
        warn_of_share(found, BLANK, self.place)

    def place(self, position: int) -> str:
        """Name a chosen row, for messages."""
        return describe_row(self.table, int(self.chosen[position]), self.origin)


def require_columns(table: datasets.Dataset, names: Sequence[str], origin: str) -> None:
    """Raise a UserError that lists the columns there are when one of the names is missing."""
    for name in names:
        if name not in table.column_names:
            there = ", ".join(column for column in table.column_names if column != LINE_COLUMN)
            raise UserError(f"{origin} has no column {name!r}; its columns: {there}")


def describe_row(table: datasets.Dataset, row: int, origin: str) -> str:
    """Name a row, counting from 1; by its line where it comes from a text file."""
    if LINE_COLUMN in table.column_names:
        return f"{origin}, line {table[row][LINE_COLUMN]}"
    return f"{origin}, row {row + 1}"


def encode_queries(table: datasets.Dataset, column: str, origin: str) -> np.ndarray:
    """Return the number of the question that each row answers (M,), equal where the column's values are equal."""
    require_columns(table, (column,), origin)
    values = arrow_column(table, column).to_pylist()
    for row, value in enumerate(values):
        if value is None or not str(value).strip():
            where = describe_row(table, row, origin)
            raise UserError(f"{where}: no value in {column!r}, the question to which an answer belongs; fill it in")
    codes: dict[object, int] = {}
    return np.asarray([codes.setdefault(value, len(codes)) for value in values], dtype=np.int64)
