"""Predictions on disk while they are computed, then joined in the order of the input, both in constant memory.

Each process writes its rows as Parquet files, each sorted by the row's index. A file is complete or absent, so that
those of a run that was killed can be read. N rows, at most `SHARD_ROWS` in a shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mebert.errors import UserError
from mebert.storage.atomic import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_ROWS = 50_000
LOCK = ".lock"  # held by the command whose shards they are; tools that read the folder skip its name
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


def merged(folder: Path, counts: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the rows of all shards in the order of their index, some thousands at a time.

    A shard is opened when its first row is due, so that only a few are open at once.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    paths = [_path(folder, rank, number) for rank, count in enumerate(counts) for number in range(count)]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path} is not there, but process {int(path.name.split('-')[1])} wrote it: give predictions.path in a "
                "folder that all machines share"
            )
    waiting = sorted(((_first_index(path), path) for path in paths), reverse=True)
    shards: list[tuple[pa.Table, Iterator[pa.Table]]] = []  # the block in memory, and the blocks that follow
    while waiting or shards:
        while waiting and (not shards or waiting[-1][0] <= min(_last_index(block) for block, _ in shards)):
            blocks = _blocks(waiting.pop()[1])
            shards.append((next(blocks), blocks))
        until = min(_last_index(block) for block, _ in shards)
        due = [pc.sum(pc.less_equal(block["index"], until)).as_py() or 0 for block, _ in shards]
        yield pa.concat_tables([block.slice(0, n) for (block, _), n in zip(shards, due, strict=True)]).sort_by("index")
        left = [
            (block.slice(n) if n < len(block) else next(blocks, None), blocks)
            for (block, blocks), n in zip(shards, due, strict=True)
        ]
        shards = [(block, blocks) for block, blocks in left if block is not None]


def claim_shards(folder: Path, table: Path) -> FileLock:
    """Take a folder of shards for this command, until the lock is released (also by kill -9).

    Raises:
        UserError: Another command is writing the same table.
    """
    lock = FileLock(folder / LOCK)
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{table} is being written by another predict: give another --out, or wait until it ends"
            ) from None
        except FileNotFoundError:  # the other has just ended, and removed the folder
            continue
        return lock


def release_shards(lock: FileLock) -> None:
    """Release what `claim_shards` took, and remove the folder if nothing else is in it."""
    path = Path(lock.lock_file)
    path.unlink(missing_ok=True)  # while it is held: who has opened it meanwhile sees that and tries again
    lock.release()
    with suppress(OSError):
        path.parent.rmdir()


def remove_shards(folder: Path) -> None:
    """Remove the shards, and their folder if nothing else is in it."""
    for path in _files(folder):
        path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _path(folder: Path, rank: int, number: int) -> Path:
    return folder / f"part-{rank:05d}-{number:06d}.parquet"


def _files(folder: Path) -> list[Path]:
    """All shards in a folder, unfinished ones included."""
    return [*folder.glob("part-*.parquet"), *folder.glob(".part-*.unfinished")]


def _first_index(path: Path) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return int(file.metadata.row_group(0).column(0).statistics.min)


def _last_index(block: pa.Table) -> int:
    return int(block["index"][-1].as_py())


def _blocks(path: Path) -> Iterator[pa.Table]:
    """Yield the row groups of a shard."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)
