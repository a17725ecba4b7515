"""Files that are read as they are predicted: the same rows as otherwise, in constant memory."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import read_csv, write_rows

from mebert.data import TextDataModule
from mebert.data.files import load_file
from mebert.data.streaming import FileStream, StreamedBatches
from mebert.errors import UserError

TEXTS = ["plain", 'with "quotes", commas', "two\nlines", "a\rb", "Zürich 漢字", "=1+1"]


def write_texts(path, texts):
    return write_rows(path, [{"id": f"n{i}", "text": text} for i, text in enumerate(texts)])


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_rows_are_those_of_the_whole_file(tmp_path, suffix):
    texts = [text for text in TEXTS if suffix != "tsv" or not {"\n", "\r"} & set(text)]
    path = write_texts(tmp_path / f"rows.{suffix}", texts)
    if suffix != "parquet":  # a byte order mark
        Path(path).write_bytes(b"\xef\xbb\xbf" + Path(path).read_bytes())
    stream = FileStream(path, ["text", "id"], ["text"])
    stream.check()
    found = list(stream.rows())
    assert [values for _, _, values in found] == [[text, f"n{i}"] for i, text in enumerate(texts)]
    assert [index for index, _, _ in found] == list(range(len(texts)))
    table = load_file(path, ["text", "id"], None)
    assert [values[0] for _, _, values in found] == table["text"][:]
    if suffix != "parquet":
        assert [line for _, line, _ in found] == table["__line__"][:]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6), min_size=1))
def test_any_csv_is_read_as_by_the_csv_module(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("any") / "rows.csv"
    write_texts(path, texts)
    wanted = [row["text"] for row in read_csv(path)]
    assert [values[0] for _, _, values in FileStream(str(path), ["text"], ["text"]).rows()] == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"txt": "a"}\n', "no column 'text'"),
        ('{"text": null}\n', "no row of the first 1 has a text in 'text'"),
        ('{"text": "a"}\n{"text": \n', "line 2: not JSON"),
    ],
)
def test_the_first_rows_are_checked(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        FileStream(str(path), ["text"], ["text"]).check()


@pytest.mark.parametrize(("size", "streaming", "streamed"), [(10, None, False), (10, True, True), (3000, None, True)])
def test_large_files_are_streamed_and_small_ones_where_it_is_asked_for(
    tmp_path, tokenizer_folder, monkeypatch, size, streaming, streamed
):
    monkeypatch.setattr("mebert.data.files.LARGE", 50_000)
    path = write_texts(tmp_path / "rows.jsonl", ["the cat sat"] * size)
    data = TextDataModule(labels=["no", "yes"], predict_file=path, tokenizer=tokenizer_folder, streaming=streaming)
    data.setup("predict")
    assert ("predict" not in data.splits) == streamed
    found = sorted(index for batch in data.predict_dataloader() for index in batch["index"].tolist())
    assert found == list(range(size))
    assert data.predict_rows([1, 4, 9]) == {"text": ["the cat sat"] * 3}
    assert data.predict_rows([2]) == {"text": ["the cat sat"]}, "back again"


def test_processes_share_the_rows(tmp_path, tokenizer_folder):
    """Each has every third, in windows of which the longest come first; a pair, a blank text, a text too long."""
    texts = [" ".join(["cat"] * (1 + i % 23)) for i in range(500)] + [" "]
    path = write_texts(tmp_path / "rows.csv", texts)
    settings = {"text_pair_column": "id", "max_length": 16, "batch_size": 4, "tokenizer": tokenizer_folder}
    data = TextDataModule(labels=["no", "yes"], predict_file=path, streaming=True, **settings)
    data.setup("predict")
    whole = TextDataModule(labels=["no", "yes"], predict_file=path, streaming=False, **settings)
    with pytest.warns(UserWarning, match="blank"):
        whole.setup("predict")
    wanted = {int(i): row.tolist() for b in whole.predict_dataloader() for i, row in tokens_of(b)}
    seen = {}
    for rank in range(3):
        args = data._stream, data.tokenizer, 16, data.collate_for(), 4
        batches = list(StreamedBatches(*args, replicas=3, rank=rank).loader(0))
        own = [index for batch in batches for index in batch["index"].tolist()]
        assert sorted(own) == list(range(rank, 501, 3))
        assert all(index < 3 * 32 * 4 for index in own[: 32 * 4]), "in windows"
        lengths = [int(batch["attention_mask"].sum(1).max()) for batch in batches[:32]]
        assert lengths == sorted(lengths, reverse=True)
        seen |= {int(i): row.tolist() for batch in batches for i, row in tokens_of(batch)}
    assert seen == wanted


def tokens_of(batch):
    for index, ids, mask in zip(batch["index"], batch["input_ids"], batch["attention_mask"], strict=True):
        yield index, ids[mask.bool()]


def test_memory_does_not_grow_with_the_rows(tmp_path, tokenizer_folder):
    peaks = {}
    for rows in (1_000, 6_000):
        path = write_texts(tmp_path / f"{rows}.jsonl", [f"the cat sat on mat {i}" for i in range(rows)])
        data = TextDataModule(labels=["no", "yes"], predict_file=path, streaming=True, tokenizer=tokenizer_folder)
        data.setup("predict")
        tracemalloc.start()
        assert sum(len(batch["index"]) for batch in data.predict_dataloader()) == rows
        assert sum(len(data.predict_rows(range(i, i + 500))["text"]) for i in range(0, rows, 500)) == rows
        peaks[rows] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[6_000] < 1.3 * peaks[1_000]


def test_streaming_needs_a_file(tokenizer_folder):
    with pytest.raises(UserError, match="streaming is for a predict_file"):
        TextDataModule(labels=["no", "yes"], streaming=True, tokenizer=tokenizer_folder)
