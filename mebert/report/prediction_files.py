"""Prediction tables as files, written chunk by chunk: CSV, JSON lines or Parquet, by the file's name."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mebert.errors import UserError

__all__ = ["check_table_path", "write_table"]

Chunk = Mapping[str, Sequence[Any]]
FORMATS = (".csv", ".jsonl", ".parquet")


def check_table_path(path: Path) -> None:
    """Refuse a file name that says no known format, or that is a folder.

    Raises:
        UserError: With the names that work.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"predictions.path {str(path)!r} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if path.is_dir():
        raise UserError(f"predictions.path {str(path)!r} is a folder; give a file name")


def write_table(path: Path, chunks: Iterable[Chunk]) -> None:
    """Write chunks of columns, one after another, into one file.

    The file appears under its name only when it is complete: a run that breaks off leaves an older file as it
    was.

    Args:
        path: Ends in .csv, .jsonl or .parquet; missing folders are made.
        chunks: Column name to values; all chunks have the same columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    write = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[path.suffix.lower()]
    try:
        write(unfinished, chunks)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_csv(path: Path, chunks: Iterable[Chunk]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, chunk in enumerate(chunks):
            if number == 0:
                writer.writerow(chunk)
            writer.writerows(zip(*chunk.values(), strict=True))


def _write_jsonl(path: Path, chunks: Iterable[Chunk]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for chunk in chunks:
            for row in zip(*chunk.values(), strict=True):
                file.write(json.dumps(dict(zip(chunk, row, strict=True)), ensure_ascii=False) + "\n")


def _write_parquet(path: Path, chunks: Iterable[Chunk]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for chunk in chunks:
            table = pa.table({name: list(values) for name, values in chunk.items()})
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema)
            writer.write_table(table.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()
