"""Large training data: rows and token ids on disk, mapped by whoever reads them, and the same as in memory."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from mebert.data import TextDataModule
from mebert.errors import UserError


def rows(count=2000):
    return [{"text": " ".join(["cat", "dog"] * (20 + i % 10)), "label": "yn"[i % 2]} for i in range(count)]


@pytest.fixture
def prepared(tokenizer_folder):
    def prepare(path):
        data = TextDataModule(train_file=path, validation_file=path, tokenizer=tokenizer_folder, max_length=64)
        data.setup("fit")
        return data

    return prepare


def test_token_ids_are_mapped_and_not_copied(write, prepared, cache, monkeypatch):
    path = write("rows.csv", rows())
    in_memory = prepared(path).split("train")
    size = in_memory.tokens.nbytes
    assert size > 350_000
    monkeypatch.setattr("mebert.data.tokenised.MAP_FROM", 100_000)
    prepared(path)  # puts them there
    files = {file: file.stat().st_mtime_ns for file in (cache / "mebert").glob("*.input_ids.npy")}
    assert len(files) == 1
    tracemalloc.start()
    try:
        data = prepared(path)
        numpys = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        arrays = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([numpys]).traces)
    finally:
        tracemalloc.stop()
    mapped = data.split("train")
    assert {file: file.stat().st_mtime_ns for file in files} == files, "written once"
    assert isinstance(mapped.tokens.base, np.memmap)
    assert not mapped.tokens.flags.writeable
    assert arrays < size / 2, "offsets, labels and row numbers of two splits, but no tokens"
    np.testing.assert_array_equal(mapped.tokens, in_memory.tokens)
    assert next(iter(data.train_dataloader()))["input_ids"].shape[0] == 32


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_rows_of_a_large_file_are_mapped(write, prepared, cache, monkeypatch, name):
    path = write(name, rows())
    whole = prepared(path)
    monkeypatch.setattr("mebert.data.files.LARGE", 1000)
    large = prepared(path)
    assert large.label_names == whole.label_names == ["n", "y"]
    one, other = whole._rows["train"].table, large._rows["train"].table
    assert other[:] == one[:]
    assert len(list((cache / "mebert").glob("rows-*"))) == 1
    before = pa.total_allocated_bytes()
    again = prepared(path)
    texts = sum(len(row["text"]) for row in rows())
    assert pa.total_allocated_bytes() - before < texts / 10, "what Arrow holds is mapped"
    np.testing.assert_array_equal(again.split("train").tokens, whole.split("train").tokens)
    np.testing.assert_array_equal(again.split("train").labels, whole.split("train").labels)


def test_a_mistake_in_a_large_file_leaves_nothing_behind(write, prepared, cache, monkeypatch):
    monkeypatch.setattr("mebert.data.files.LARGE", 50)
    with pytest.raises(UserError, match=r"line 82: 1 field\(s\)"):
        prepared(write("a.csv", "text,label\n" + "a,y\nb,n\n" * 40 + "c\n"))
    assert not list((cache / "mebert").glob("*rows-*"))
