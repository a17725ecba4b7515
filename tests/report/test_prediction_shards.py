"""Shards of predictions: joined in order, whatever processes and batches were, a few at a time."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mebert.errors import UserError
from mebert.report import prediction_shards
from mebert.report.prediction_shards import PredictionShards, merged, remove_shards


def write(folder, indices, world, chunk):
    """Each process adds its share in chunks; returns how many shards each wrote."""
    counts = []
    for rank in range(world):
        shards, own = PredictionShards(folder, rank, world), indices[rank::world]
        for start in range(0, len(own), chunk):
            part = own[start : start + chunk]
            shards.add(
                {"index": np.asarray(part), "label": [f"l{i % 3}" for i in part], "exit": np.asarray(part) % 4 + 1}
            )
        shards.add({"index": np.asarray([], dtype=np.int64), "label": [], "exit": np.asarray([], dtype=np.int64)})
        shards.flush()
        counts.append(shards.count)
    return counts


def values_of(tables, name):
    return [value for table in tables for value in table[name].to_pylist()]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 17), st.integers(1, 40), st.integers(1, 30), st.randoms())
def test_any_order_is_joined(tmp_path_factory, rows, world, chunk, shard_rows, block, rng):
    folder = tmp_path_factory.mktemp("shards") / "out.csv.shards"
    indices = list(range(rows))
    rng.shuffle(indices)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_shards, "SHARD_ROWS", shard_rows)
        patch.setattr(prediction_shards, "BLOCK", block)
        counts = write(folder, indices, world, chunk)
        tables = list(merged(folder, counts))
    assert values_of(tables, "index") == list(range(rows))
    assert values_of(tables, "label") == [f"l{i % 3}" for i in range(rows)]
    remove_shards(folder)
    assert not folder.exists()


def test_of_a_stream_few_shards_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_shards, "SHARD_ROWS", 100)
    monkeypatch.setattr(prediction_shards, "BLOCK", 20)
    rows = list(range(5_000))
    for start in range(0, len(rows), 50):  # the order of a window: not sorted, but near
        part = rows[start : start + 50]
        random.Random(start).shuffle(part)
        rows[start : start + 50] = part
    counts = write(tmp_path, rows, 2, 8)
    assert min(counts) > 20
    most, live, real = [0], set(), prediction_shards._blocks

    def blocks(path):
        live.add(path)
        most[0] = max(most[0], len(live))
        yield from real(path)
        live.remove(path)

    monkeypatch.setattr(prediction_shards, "_blocks", blocks)
    assert sum(len(table) for table in merged(tmp_path, counts)) == 5_000
    assert 2 <= most[0] <= 6


def test_a_run_begins_with_a_folder_of_its_own(tmp_path):
    write(tmp_path, list(range(90)), 3, 5)
    (tmp_path / "notes.txt").touch()
    of_a_killed_process = tmp_path / ".part-00000-000007.parquet.here.1-ab.unfinished"
    of_a_killed_process.touch()
    counts = write(tmp_path, list(range(10)), 2, 5)
    assert values_of(merged(tmp_path, counts), "index") == list(range(10))
    assert len(list(tmp_path.glob("part-*"))) == 2, "those of the third process are gone, too"
    remove_shards(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"], "what is not ours stays"


def test_a_shard_that_this_machine_does_not_see(tmp_path):
    write(tmp_path, list(range(10)), 2, 5)
    (tmp_path / "part-00001-000000.parquet").unlink()
    with pytest.raises(UserError, match=r"process 1 wrote it: give predictions\.path in a folder that all machines"):
        list(merged(tmp_path, [1, 1]))
