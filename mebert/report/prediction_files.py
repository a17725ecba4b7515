"""Prediction tables as files, written chunk by chunk: CSV, JSON lines or Parquet, by the file's suffix."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mebert.errors import UserError
from mebert.storage.atomic import atomic_path
from mebert.storage.paths import check_output

PredictionFormat = Literal["csv", "jsonl", "parquet", "glue"]
Chunk = Mapping[str, Sequence[Any]]
FORMATS = (".csv", ".jsonl", ".parquet")


def check_prediction_path(path: Path, format: PredictionFormat | None) -> None:
    """Check that a file's suffix is a known format, and the one that is asked for; `glue` takes a folder."""
    suffix, given = path.suffix.lower(), f"predictions.path {str(path)!r}"
    if format == "glue":
        if path.is_file() or suffix in (*FORMATS, ".tsv", ".zip"):
            raise UserError(f"{given} is a file; predictions.format glue writes several: give a folder")
        check_output("predictions.path", path, folder=True)
        return
    if suffix not in FORMATS:
        raise UserError(f"{given} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if format is not None and suffix != f".{format}":
        raise UserError(f"{given} ends in {suffix}, but predictions.format is {format}; give one of them")
    if path.is_dir():
        raise UserError(f"{given} is a folder; give a file name")
    check_output("predictions.path", path)


def write_table(path: Path, chunks: Iterable[Chunk]) -> None:
    """Write chunks of columns, one after another, into one file, whole or not at all."""
    write = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[path.suffix.lower()]
    with atomic_path(path) as unfinished:
        write(unfinished, chunks)


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
