"""Own files that are too large for memory: written once as Arrow into the cache, and mapped from there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from mebert.data.file_columns import LINE_COLUMN
from mebert.errors import UserError

if TYPE_CHECKING:
    import datasets

__all__ = ["LARGE", "is_large", "map_rows"]

LARGE = 100_000_000
"""Bytes from which on a file is not read into memory."""

BLOCK = 10_000  # rows in memory while the cache is written


def is_large(path: str) -> bool:
    """Whether there is such a file, and it is large."""
    return os.path.isfile(path) and os.path.getsize(path) >= LARGE


def map_rows(path: str, wanted: Sequence[str], rows: Callable[[], Iterator[dict[str, object]]]) -> datasets.Dataset:
    """Return a file's rows as a mapped table, whose fingerprint is that of the content.

    Args:
        path: The file.
        wanted: Its columns that the rows hold; they are part of the fingerprint.
        rows: Gives the rows, all with the same names: texts, and the line's number.

    Raises:
        UserError: The file has no rows; otherwise as `rows`.
    """
    import datasets
    import pyarrow as pa

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**22):
            digest.update(block)
    digest.update("\0".join(wanted).encode())
    key = digest.hexdigest()[:32]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "mebert"
    target = folder / f"rows-{key}.arrow"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"rows-{key}.{os.getpid()}"
        given = rows()
        first = next(given, None)
        if first is None:
            raise UserError(f"{path} has no rows; it must hold at least one")
        schema = pa.schema({name: pa.int64() if name == LINE_COLUMN else pa.string() for name in first})
        given = chain([first], given)
        try:
            with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
                while part := list(islice(given, BLOCK)):
                    writer.write_table(pa.Table.from_pylist(part, schema=schema))
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    table = datasets.Dataset.from_file(str(target))
    table._fingerprint = key
    return table
