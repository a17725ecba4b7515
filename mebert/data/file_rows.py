"""The rows of a CSV, TSV, JSONL or Parquet file, one after another; an error names the file and the line.

The fields of a CSV file are separated by commas or, as spreadsheets write them where a comma is the decimal mark, by
semicolons: its header says which.

Files are read in binary and decoded line by line, because Python's text files do not tell the line that is not UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from mebert.data.file_state import FileState
from mebert.data.row_formats import Row, csv_rows, jsonl_rows, parquet_values, table_rows, tsv_rows
from mebert.data.text_lines import has_lines, text_lines, unreadable
from mebert.errors import UserError

LINE_COLUMN = "__line__"
"""Column with the line (from 1) of each row of a text file, for later error messages."""

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
ROWS_OF_COLUMNS = 1000  # of a JSONL file, whose keys are its columns


def file_rows(path: str, wanted: Sequence[str], state: FileState | None = None) -> Iterator[Row]:
    """Yield the line (in a Parquet file the row), from 1, and the wanted values of each row.

    Raises:
        UserError: A row is malformed; or the file changed since it was in `state` (null: since its first row was read).
    """
    if LINE_COLUMN in wanted:
        raise UserError(f"{path}: a column {LINE_COLUMN!r} cannot be read, since mebert has one of its own; rename it")
    suffix = Path(path).suffix.lower()
    if suffix not in ENDINGS:
        raise UserError(f"{path}: unknown kind of file; its name must end in {', '.join(ENDINGS)}")
    return _unchanged(path, _rows(path, suffix, wanted), state)


def column_names(path: str) -> list[str]:
    """The names of a file's columns, in its order; in a JSONL file the keys of its first rows.

    Raises:
        UserError: The file is empty or malformed there, or of another kind.
    """
    next(file_rows(path, []), None)  # says what is wrong with the file
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(path).names)
    if suffix == ".jsonl":
        first = islice((line for line in text_lines(path) if line.strip()), ROWS_OF_COLUMNS)
        return list(dict.fromkeys(name for line in first for name in _json_object(line)))
    rows = tsv_rows(text_lines(path)) if suffix == ".tsv" else csv_rows(path, text_lines(path))
    return next((row for _, row in rows if row), [])


def _json_object(line: str) -> dict[str, Any]:
    """A line's object; an empty one of a line that `file_rows` will refuse."""
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


def file_state(path: str) -> FileState:
    """The state of a file that is there and can be read twice."""
    try:
        return FileState.of(path)
    except OSError as error:
        raise unreadable(path, error) from None


def parquet_rows(path: str) -> int | None:
    """The number of rows that a Parquet file says it has; None for other files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if has_lines(path):
        return None
    with suppress(pa.ArrowException, OSError):  # what is damaged is told when it is read
        return int(pq.read_metadata(path).num_rows)
    return None


def _unchanged(path: str, rows: Iterator[Row], state: FileState | None) -> Iterator[Row]:
    """The same rows; raises at their end, or instead of an error of theirs, if the file has changed."""
    if state is None:
        state = file_state(path)
    else:
        state.check(path)
    try:
        yield from rows
    except UserError:
        state.check(path)
        raise
    state.check(path)


def _rows(path: str, suffix: str, wanted: Sequence[str]) -> Iterator[Row]:
    if suffix == ".parquet":
        return parquet_values(path, wanted)
    if suffix == ".jsonl":
        return jsonl_rows(path, text_lines(path), wanted)
    rows = tsv_rows(text_lines(path)) if suffix == ".tsv" else csv_rows(path, text_lines(path))
    hint = "texts with tabs or line breaks need CSV or JSONL" if suffix == ".tsv" else "quote texts with separators"
    return table_rows(path, rows, wanted, hint)
