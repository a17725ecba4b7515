"""Prediction tables as files, written chunk by chunk: CSV, TSV, JSON lines or Parquet, by the file's suffix."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from mebert.data.label_names import DEFAULT_SEPARATOR
from mebert.errors import UserError
from mebert.storage.atomic import atomic_path
from mebert.storage.paths import check_output

if TYPE_CHECKING:
    import pyarrow as pa

PredictionFormat = Literal["csv", "tsv", "jsonl", "parquet", "glue"]
Chunk = Mapping[str, Sequence[Any]]
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


def check_prediction_path(path: Path, format: PredictionFormat | None, section: str = "predictions.") -> None:
    """Check that a file's suffix is a known format, and the one that is asked for; `glue` takes a folder.

    `section` stands before the names of the arguments, `path` and `format`, in errors.
    """
    suffix, given = path.suffix.lower(), f"{section}path {str(path)!r}"
    if format == "glue":
        if path.is_file() or suffix in (*FORMATS, ".zip"):
            raise UserError(f"{given} is a file; predictions.format glue writes several: give a folder")
        check_output(f"{section}path", path, folder=True)
        return
    if suffix not in FORMATS:
        raise UserError(f"{given} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if format is not None and suffix != f".{format}":
        raise UserError(f"{given} ends in {suffix}, but {section}format is {format}; give one of them")
    if path.is_dir():
        raise UserError(f"{given} is a folder; give a file name")
    check_output(f"{section}path", path)


def label_cells(chunks: Iterable[Chunk], separator: str | None, ending: str) -> Iterator[Chunk]:
    """The same chunks, for a file of this ending: in CSV and TSV a row's `labels` are one text, parted as in training.

    Where labels hold the separator (None: a comma), the list is written as JSON.
    """
    mark = separator or DEFAULT_SEPARATOR
    for chunk in chunks:
        if ending.lower() in (".csv", ".tsv") and "labels" in chunk:
            cells = [v if any(mark in name for name in v) else mark.join(v) for v in chunk["labels"]]
            chunk = {**chunk, "labels": cells}
        yield chunk


def write_table(path: Path, chunks: Iterable[Chunk]) -> None:
    """Write chunks of columns, one after another, into one file, whole or not at all."""
    writers: dict[str, Callable[[Path, Iterable[Chunk]], None]] = {
        ".csv": _write_csv,
        ".tsv": partial(_write_csv, dialect="excel-tab"),
        ".jsonl": _write_jsonl,
        ".parquet": _write_parquet,
    }
    with atomic_path(path) as unfinished:
        writers[path.suffix.lower()](unfinished, chunks)


def print_table(file: TextIO, format: PredictionFormat, chunks: Iterable[Chunk]) -> None:
    """Print chunks of columns as CSV, TSV or JSON lines, each as soon as it is there."""
    if format == "jsonl":
        _print_jsonl(file, chunks)
    else:
        _print_csv(file, chunks, "excel" if format == "csv" else "excel-tab", "\n")


def _write_csv(path: Path, chunks: Iterable[Chunk], dialect: str = "excel") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        _print_csv(file, chunks, dialect)


def _print_csv(file: TextIO, chunks: Iterable[Chunk], dialect: str, end: str = "\r\n") -> None:
    writer = csv.writer(file, dialect, lineterminator=end)
    for number, chunk in enumerate(chunks):
        if number == 0:
            writer.writerow(chunk)
        writer.writerows(zip(*(map(_csv_cell, values) for values in chunk.values()), strict=True))
        file.flush()


def _csv_cell(value: Any) -> Any:
    """A list or an object, which a column that is carried along may hold, as JSON."""
    return _json(value) if isinstance(value, list | dict) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)  # str: a date of a Parquet file


def _write_jsonl(path: Path, chunks: Iterable[Chunk]) -> None:
    with path.open("w", encoding="utf-8") as file:
        _print_jsonl(file, chunks)


def _print_jsonl(file: TextIO, chunks: Iterable[Chunk]) -> None:
    for chunk in chunks:
        for row in zip(*chunk.values(), strict=True):
            file.write(_json(dict(zip(chunk, row, strict=True))) + "\n")
        file.flush()


def _write_parquet(path: Path, chunks: Iterable[Chunk]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for chunk in chunks:
            table = pa.table({name: _arrow(name, values) for name, values in chunk.items()})
            if writer is None:
                # A column that is empty so far may hold anything later; text is what most do.
                types = [_known(kind) for kind in table.schema.types]
                writer = pq.ParquetWriter(path, pa.schema(list(zip(table.column_names, types, strict=True))))
            columns = zip(table.column_names, table.columns, writer.schema.types, strict=True)
            writer.write_table(pa.table({name: _cast(name, values, kind) for name, values, kind in columns}))
    finally:
        if writer is not None:
            writer.close()


def _known(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_list(kind) and pa.types.is_null(kind.value_type):
        return pa.list_(pa.string())
    return pa.string() if pa.types.is_null(kind) else kind


def _arrow(name: str, values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(list(values))
    except pa.ArrowException:
        raise _mixed(name) from None


def _cast(name: str, values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    import pyarrow as pa

    try:
        return values.cast(kind)
    except pa.ArrowException:
        raise _mixed(name) from None


def _mixed(name: str) -> UserError:
    return UserError(
        f"data.id_columns: the column {name!r} holds values of several kinds, which Parquet cannot store; "
        "give --out a name that ends in .jsonl or .csv"
    )
