"""Input that changes while it is read, cannot be read twice, or is far larger in memory than on the disk."""

import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import write_rows

from mebert.data import TextDataModule
from mebert.data.file_rows import file_rows
from mebert.data.files import is_large, load_file
from mebert.data.streaming import HEAD
from mebert.errors import UserError

ROWS = [{"text": f"the cat sat {n}", "label": "no"} for n in range(2_000)]
CHANGED = "changed while it was read"


def rewritten(path, rows):
    write_rows(path, rows)


def replaced(path, rows):
    new = path.with_name(f"new{path.suffix}")
    write_rows(new, rows)
    os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))  # as rsync does
    new.replace(path)


def removed(path, rows):
    path.unlink()


CHANGES = {
    "longer": (rewritten, [*ROWS, ROWS[0]]),
    "shorter": (rewritten, ROWS[: HEAD + 100]),
    "another order": (rewritten, ROWS[::-1]),
    "another file": (replaced, ROWS[::-1]),
    "gone": (removed, []),
}


def predicting(path, tokenizer_folder, **settings):
    return TextDataModule(labels=["no", "yes"], predict_file=str(path), tokenizer=tokenizer_folder, **settings)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", ["before the batches", "among the batches", "before the texts", "among the texts"])
def test_a_streamed_file_that_changes(tmp_path, tokenizer_folder, suffix, change, moment):
    path = tmp_path / f"rows.{suffix}"
    write_rows(path, ROWS)
    data = predicting(path, tokenizer_folder, streaming=True, eval_batch_size=8)
    data.setup("predict")
    how, rows = CHANGES[change]

    def at(place):
        if place == moment:
            how(path, rows)

    def whole_prediction():
        at("before the batches")
        for number, _ in enumerate(data.predict_dataloader()):
            if number == 3:
                at("among the batches")
        at("before the texts")
        for start in range(0, len(ROWS), 500):
            found = data.predict_rows(range(start, start + 500))["text"]
            assert found == [row["text"] for row in ROWS[start : start + 500]], "of other rows"
            if start == 500:
                at("among the texts")

    with pytest.raises(UserError, match=CHANGED):
        whole_prediction()


def test_a_file_that_stays_is_predicted(tmp_path, tokenizer_folder):
    path = tmp_path / "rows.csv"
    write_rows(path, ROWS)
    data = predicting(path, tokenizer_folder, streaming=True)
    data.setup("predict")
    os.chmod(path, 0o600)  # no other content
    assert sum(len(batch["index"]) for batch in data.predict_dataloader()) == len(ROWS)
    assert len(data.predict_rows(range(len(ROWS)))["text"]) == len(ROWS)


@pytest.mark.parametrize("large", [False, True], ids=["in memory", "mapped"])
def test_rows_are_kept_under_the_key_of_their_own_content(tmp_path, hf_cache, monkeypatch, large):
    """A file that changes between its hash and its rows would leave wrong token ids in the cache, for good."""
    path = tmp_path / "rows.csv"
    write_rows(path, ROWS)
    monkeypatch.setattr("mebert.data.files.LARGE", 0 if large else 10**9)
    real = file_rows

    def read(*given):
        for number, row in enumerate(real(*given)):
            if number == 1_500:
                write_rows(path, ROWS[::-1])
            yield row

    monkeypatch.setattr("mebert.data.files.file_rows", read)
    with pytest.raises(UserError, match=CHANGED):
        load_file(str(path), ["text"], "label")
    assert not list(hf_cache.rglob("*.arrow"))


def test_a_change_is_told_and_not_the_broken_line_that_it_left(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, ROWS)
    rows = file_rows(str(path), ["text"])
    next(rows)
    path.write_text('{"text": ')
    with pytest.raises(UserError, match=CHANGED):
        list(rows)


@pytest.mark.parametrize("streaming", [None, True, False])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_pipe_is_refused_at_once(tmp_path, tokenizer_folder, streaming, suffix):
    path = tmp_path / f"pipe.{suffix}"
    os.mkfifo(path)
    keep_open = os.open(path, os.O_RDWR)  # or a version that reads it would wait for ever
    os.write(keep_open, b"text\na\n")
    try:
        with pytest.raises(UserError, match=rf"cannot be read twice.*\(cat {path} > rows\.{suffix}\), and give that"):
            predicting(path, tokenizer_folder, streaming=streaming).setup("predict")
        with pytest.raises(UserError, match="cannot be read twice"):
            TextDataModule(labels=["no", "yes"], train_file=str(path), tokenizer=tokenizer_folder).setup("fit")
    finally:
        os.close(keep_open)


def few_bytes_of_many_rows(path: Path, groups: int, rows: int) -> str:
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["the cat sat"])})
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(table)
    return str(path)


def test_a_parquet_file_is_as_large_as_its_rows(tmp_path, tokenizer_folder):
    """1.2 million equal rows take a few kilobytes on the disk; at once they would be 200 MB in memory."""
    path = few_bytes_of_many_rows(tmp_path / "many.parquet", 3, 400_000)
    assert os.path.getsize(path) < 20_000
    assert is_large(path)
    assert not is_large(few_bytes_of_many_rows(tmp_path / "few.parquet", 1, 1000))
    data = predicting(path, tokenizer_folder, eval_batch_size=8)
    tracemalloc.start()
    data.setup("predict")
    before = pa.total_allocated_bytes()
    assert [len(batch["index"]) for _, batch in zip(range(100), data.predict_dataloader(), strict=False)] == [8] * 100
    assert data.predict_rows(range(999, 1999))["text"] == ["the cat sat"] * 1000
    peak = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert peak < 30e6
