"""Predictions on disk while they are made, and joined in the order of the input, both in constant memory.

Every process writes its rows as Parquet files, each sorted by the row's number; whole ones only, so that those of a run
that was killed can be read. N rows, of which a shard holds at most `SHARD_ROWS`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PredictionShards", "merged", "remove_shards"]

SHARD_ROWS = 50_000
BLOCK = 2_000  # rows of a shard that are in memory while shards are joined
PATTERN = "part-*.parquet"


def shard_name(rank: int, number: int) -> str:
    """The file of a process's shard, both counted from 0."""
    return f"part-{rank:05d}-{number:06d}.parquet"


class PredictionShards:
    """The shards of one process.

    Args:
        folder: Where all processes write; what an earlier run has left there of this process goes.
        rank: This process, from 0.
        world_size: Processes. The first one also takes away what a run of more of them has left.
    """

    def __init__(self, folder: Path, rank: int = 0, world_size: int = 1) -> None:
        self.folder = folder
        self.rank = rank
        self.count = 0  # shards that have been written
        self._parts: list[dict[str, Any]] = []
        self._rows = 0
        for old in _files(folder):
            whose = int(old.name.split("-")[1])
            if whose == rank or (rank == 0 and whose >= world_size):
                old.unlink()

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows.

        Args:
            columns: By name, equally long; `index` among them, the row's number from 0.
        """
        if len(columns["index"]):
            self._parts.append(dict(columns))
        self._rows += len(columns["index"])
        if self._rows >= SHARD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        table = pa.concat_tables([pa.table(part) for part in self._parts]).sort_by("index")
        path = self.folder / shard_name(self.rank, self.count)
        unfinished = path.with_name(f".{path.name}")  # readers of a folder of Parquet files pass over such names
        pq.write_table(table, unfinished, row_group_size=BLOCK)
        os.replace(unfinished, path)
        self.count += 1
        self._parts, self._rows = [], 0


class _Run:
    """A shard that is being read: the block in memory, and those that follow."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.file = pq.ParquetFile(path)
        statistics = self.file.metadata.row_group(0).column(0).statistics
        self.first = int(statistics.min)
        self.block: pa.Table | None = None
        self.groups = iter(range(self.file.num_row_groups))

    @property
    def last(self) -> int:
        """Number of the last row in memory."""
        assert self.block is not None
        return int(self.block["index"][-1].as_py())

    def read(self) -> bool:
        """Bring the next block; False at the end."""
        group = next(self.groups, None)
        if group is None:
            self.file.close()
            return False
        self.block = self.file.read_row_group(group)
        return True

    def take(self, until: int) -> pa.Table:
        """The rows in memory up to a number, which are then no longer kept."""
        import pyarrow.compute as pc

        assert self.block is not None
        count = pc.sum(pc.less_equal(self.block["index"], until)).as_py() or 0
        taken, self.block = self.block.slice(0, count), self.block.slice(count)
        return taken


def merged(folder: Path, counts: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the rows of all shards in the order of their numbers, some thousands at a time.

    A shard is opened when its first row's turn comes, so that of a stream only a few are open at once.

    Args:
        folder: Where they are.
        counts: Shards of each process.

    Raises:
        UserError: One is not there: the processes do not see the same folder.
    """
    import pyarrow as pa

    paths = [folder / shard_name(rank, number) for rank, count in enumerate(counts) for number in range(count)]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path} is not there, but process {int(path.name.split('-')[1])} wrote it: give predictions.path in a "
                "folder that all machines share"
            )
    waiting = sorted(((_first(path), path) for path in paths), reverse=True)
    runs: list[_Run] = []
    while waiting or runs:
        if not runs:
            runs.append(_opened(waiting.pop()[1]))
        until = min(run.last for run in runs)
        while waiting and waiting[-1][0] <= until:
            runs.append(_opened(waiting.pop()[1]))
            until = min(until, runs[-1].last)
        yield pa.concat_tables([run.take(until) for run in runs]).sort_by("index")
        runs = [run for run in runs if (run.block is not None and run.block.num_rows) or run.read()]


def remove_shards(folder: Path) -> None:
    """Take away the shards, and their folder if it held nothing else."""
    for path in _files(folder):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)


def _files(folder: Path) -> list[Path]:
    """All shards there, those that were not finished too."""
    return [*folder.glob(PATTERN), *folder.glob(f".{PATTERN}")]


def _first(path: Path) -> int:
    run = _Run(path)
    run.file.close()
    return run.first


def _opened(path: Path) -> _Run:
    run = _Run(path)
    run.read()
    return run
