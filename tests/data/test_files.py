"""Own files: what is read, and what each mistake is told as."""

from __future__ import annotations

import pytest

from mebert.data.file_rows import LINE_COLUMN
from mebert.data.files import load_file
from mebert.errors import UserError

ROWS = [{"text": "a cat", "label": "good"}, {"text": "a dog", "label": "bad"}]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet", "rows.CSV"])
def test_every_kind_gives_the_same_rows(write, name):
    table = load_file(write(name, ROWS), ["text"], "label")
    assert list(table["text"]) == ["a cat", "a dog"]
    assert list(table["label"]) == ["good", "bad"]


def test_csv_keeps_quotes_commas_and_line_breaks(write):
    table = load_file(write("rows.csv", 'x,text\n1,"a, ""b""\nc"\n\n2,d\n'), ["text"], None)
    assert list(table["text"]) == ['a, "b"\nc', "d"]
    assert list(table[LINE_COLUMN]) == [2, 5]


def test_tsv_takes_a_lone_quote_for_what_it_is(write):
    table = load_file(write("rows.tsv", 'text\tlabel\n"a cat\tx\n"said ""b"""\ty\n"a" b "c"\tx\n'), ["text"], "label")
    assert list(table["text"]) == ['"a cat', 'said "b"', '"a" b "c"']


def test_byte_order_mark_windows_lines_and_long_texts(write):
    text = "cat " * 50_000
    path = write("rows.csv", f"\ufefftext,label\r\n{text},1\r\n".encode())
    assert list(load_file(path, ["text"], "label")["text"]) == [text]
    path = write("rows.tsv", f"\ufefftext\tlabel\r\n{text}\t1\r\n".encode())
    assert list(load_file(path, ["text"], "label")["label"]) == ["1"]


def test_fingerprint_is_that_of_the_content(write):
    first = load_file(write("a.csv", ROWS), ["text"], "label")
    same = load_file(write("b.csv", ROWS), ["text"], "label")
    other = load_file(write("c.csv", ROWS[::-1]), ["text"], "label")
    assert first._fingerprint == same._fingerprint != other._fingerprint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", "text\na\n", "rows.txt: unknown kind of file.*csv.*parquet"),
        ("rows.csv", "", "rows.csv is empty"),
        ("rows.csv", " \n\n", "rows.csv is empty"),
        ("rows.csv", "text,label\n", "has a header but no rows"),
        ("rows.csv", "sentence,label\na,1\n", "has no column 'text'; its columns: sentence, label"),
        ("rows.csv", "text,label,text\na,1,b\n", "more than one column 'text'"),
        ("rows.csv", "text,label\na,1\nb, c,0\n", r"line 3: 3 field\(s\) where the header has 2"),
        ("rows.csv", 'text,label\na,1\n"b,0\nc,1\n', "line 3: malformed CSV"),
        ("rows.csv", b"text,label\na,1\n\xff\xfe,0\n", "line 3: not UTF-8"),
        ("rows.tsv", "text\tlabel\na\n", r"line 2: 1 field\(s\)"),
        ("rows.jsonl", '{"text": "a", "label": 1}\n\n{"text": \n', "line 3: not JSON"),
        ("rows.jsonl", '{"text": "a", "label": 1}\n[1]\n', "line 2: a list, not a JSON object"),
        ("rows.jsonl", '{"text": ["a"], "label": 1}\n', "line 1: column 'text' holds a list, not a text"),
        ("rows.jsonl", '{"txt": "a", "label": 1}\n', "no column 'text'; its columns: txt, label"),
        ("rows.parquet", b"PAR1 nonsense", "not a usable Parquet file"),
    ],
)
def test_mistakes_are_told_with_their_place(write, name, content, message):
    with pytest.raises(UserError, match=message) as error:
        load_file(write(name, content), ["text"], "label")
    assert "\n" not in str(error.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*none.csv"):
        load_file(str(tmp_path / "none.csv"), ["text"], None)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder.csv is a folder; name the file in it"):
        load_file(str(tmp_path / "folder.csv"), ["text"], None)


def test_parquet_without_rows_or_column(write):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write("rows.parquet", ROWS)
    with pytest.raises(UserError, match="no column 'sentence'; its columns: text, label"):
        load_file(path, ["sentence"], None)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    with pytest.raises(UserError, match="has no rows"):
        load_file(path, ["text"], None)
