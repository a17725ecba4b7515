"""Predictions on disk while they are computed, then joined in the order of the input, both in constant memory.

Each process writes its rows as Parquet files, each sorted by the row's index. A file is complete or absent, so that
those of a run that was killed can be read. N rows, at most `SHARD_ROWS` in a shard.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.errors import UserError
from mebert.storage.atomic import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 50_000
BLOCK = 2_000  # rows of a shard that are in memory while shards are joined


class PredictionShards:
    """The shards of one process, in a folder that all processes share.

    Shards of this rank that an earlier run has left there are removed, and by rank 0 those of ranks beyond
    `world_size`.
    """

    def __init__(self, folder: Path, rank: int = 0, world_size: int = 1) -> None:
        self.folder = folder
        self.rank = rank
        self.count = 0  # shards that have been written
        self._parts: list[dict[str, Any]] = []
        self._rows = 0
        for old in _files(folder):
            owner = int(old.name.split("-")[1])
            if owner == rank or (rank == 0 and owner >= world_size):
                old.unlink()

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows: columns of equal length by name, `index` among them, the row's number from 0."""
        if len(columns["index"]):
            self._parts.append(dict(columns))
        self._rows += len(columns["index"])
        if self._rows >= SHARD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that have not been written yet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        table = pa.concat_tables([pa.table(part) for part in self._parts]).sort_by("index")
        with atomic_path(_path(self.folder, self.rank, self.count)) as unfinished:
            pq.write_table(table, unfinished, row_group_size=BLOCK)
        self.count += 1
        self._parts, self._rows = [], 0


class _Shard:
    """A shard that is being read: the block in memory, and the row groups that follow."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.file = pq.ParquetFile(path)
        self.block: pa.Table | None = None
        self.groups = iter(range(self.file.num_row_groups))
        self.read()

    @property
    def last(self) -> int:
        """Index of the last row in memory."""
        assert self.block is not None
        return int(self.block["index"][-1].as_py())

    def read(self) -> bool:
        """Read the next block; False at the end."""
        group = next(self.groups, None)
        if group is None:
            self.file.close()
            return False
        self.block = self.file.read_row_group(group)
        return True

    def take(self, until: int) -> pa.Table:
        """Remove the rows up to an index from memory and return them."""
        import pyarrow.compute as pc

        assert self.block is not None
        count = pc.sum(pc.less_equal(self.block["index"], until)).as_py() or 0
        taken, self.block = self.block.slice(0, count), self.block.slice(count)
        return taken


def merged(folder: Path, counts: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the rows of all shards in the order of their index, some thousands at a time.

    A shard is opened when its first row is due, so that only a few are open at once.
    """
    import pyarrow as pa

    paths = [_path(folder, rank, number) for rank, count in enumerate(counts) for number in range(count)]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path} is not there, but process {int(path.name.split('-')[1])} wrote it: give predictions.path in a "
                "folder that all machines share"
            )
    waiting = sorted(((_first_index(path), path) for path in paths), reverse=True)
    shards: list[_Shard] = []
    while waiting or shards:
        if not shards:
            shards.append(_Shard(waiting.pop()[1]))
        until = min(shard.last for shard in shards)
        while waiting and waiting[-1][0] <= until:
            shards.append(_Shard(waiting.pop()[1]))
            until = min(until, shards[-1].last)
        yield pa.concat_tables([shard.take(until) for shard in shards]).sort_by("index")
        shards = [shard for shard in shards if (shard.block is not None and shard.block.num_rows) or shard.read()]


def remove_shards(folder: Path) -> None:
    """Remove the shards, and their folder if nothing else is in it."""
    for path in _files(folder):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)


def _path(folder: Path, rank: int, number: int) -> Path:
    return folder / f"part-{rank:05d}-{number:06d}.parquet"


def _files(folder: Path) -> list[Path]:
    """All shards in a folder, unfinished ones included."""
    return [*folder.glob("part-*.parquet"), *folder.glob(".part-*.unfinished")]


def _first_index(path: Path) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return int(file.metadata.row_group(0).column(0).statistics.min)
