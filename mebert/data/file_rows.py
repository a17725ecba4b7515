"""The rows of a file one after another, however many they are: nothing is held but what is being looked at."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from mebert.data.file_columns import OTHER_KINDS, check_ending, text_rows
from mebert.errors import UserError

__all__ = ["file_rows"]

BLOCK = 1000  # rows of a Parquet file that are read together


def file_rows(path: str, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[object]]]:
    """Yield the line (in a Parquet file the row), from 1, and the wanted values of each row.

    Args:
        path: A CSV, TSV, JSONL or Parquet file.
        wanted: Names of columns.

    Raises:
        UserError: It cannot be read, has no rows, not all of the columns, or a malformed line (when it is reached).
    """
    check_ending(path)
    if Path(path).suffix.lower() == ".parquet":
        return _parquet_rows(path, wanted)
    return _text_file_rows(path, wanted)


def _text_file_rows(path: str, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[object]]]:
    try:
        with open(path, "rb") as file:
            yield from text_rows(path, _lines(path, file), wanted)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path (it is relative to {Path.cwd()})") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; give a file that can be read") from error


def _parquet_rows(path: str, wanted: Sequence[str]) -> Iterator[tuple[int, Sequence[object]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            for name in wanted:
                if name not in there:
                    raise UserError(f"{path} has no column {name!r}; its columns: {', '.join(there)}")
            blocks = file.iter_batches(batch_size=BLOCK, columns=list(wanted))
            rows = (zip(*(block[name].to_pylist() for name in wanted), strict=True) for block in blocks)
            yield from enumerate(chain.from_iterable(rows), start=1)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200].rstrip(".")
        raise UserError(f"{path} is not a usable Parquet file: {reason}; write or copy it anew") from error


def _lines(path: str, file: BinaryIO) -> Iterator[str]:
    """Yield the lines of a file as text with their ends; what is no text is refused with its line."""
    for number, raw in enumerate(file, start=1):
        line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        for start, (what, advice) in OTHER_KINDS.items() if number == 1 else ():
            if line.startswith(start):
                raise UserError(f"{path} is {what}, not UTF-8 text; {advice}")
        if b"\0" in line:
            raise UserError(f"{path}, line {number}: a NUL byte, so this is not UTF-8 text; save the file as UTF-8")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{path}, line {number}: not UTF-8 text; save the file as UTF-8") from None
