"""Own files: what is read, and what each mistake is told as."""

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


def test_a_csv_of_semicolons_is_read_as_spreadsheets_write_it(write):
    path = write("rows.csv", '\ufeff\n"the text; all";label\n"a, ""b"";";x\n3,5;y\n')
    table = load_file(path, ["the text; all"], "label")
    assert list(table["the text; all"]) == ['a, "b";', "3,5"]
    assert list(table["label"]) == ["x", "y"]
    with pytest.raises(UserError, match=r"line 3: 3 field\(s\) where the header has 2; quote texts with separators"):
        load_file(write("broken.csv", "text;label\na;x\na;b;x\n"), ["text"], "label")


def test_tsv_takes_a_lone_quote_for_what_it_is(write):
    table = load_file(write("rows.tsv", 'text\tlabel\n"a cat\tx\n"said ""b"""\ty\n"a" b "c"\tx\n'), ["text"], "label")
    assert list(table["text"]) == ['"a cat', 'said "b"', '"a" b "c"']


def test_fingerprint_is_that_of_the_content(write):
    first = load_file(write("a.csv", ROWS), ["text"], "label")
    same = load_file(write("b.csv", ROWS), ["text"], "label")
    other = load_file(write("c.csv", ROWS[::-1]), ["text"], "label")
    assert first._fingerprint == same._fingerprint != other._fingerprint


def test_parquet_without_rows_or_column(write):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write("rows.parquet", ROWS)
    with pytest.raises(UserError, match="no column 'sentence'; its columns: text, label"):
        load_file(path, ["sentence"], None)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    with pytest.raises(UserError, match="has no rows"):
        load_file(path, ["text"], None)


def test_a_line_of_tabs_is_a_row_and_a_blank_line_of_several_columns_is_none(write):
    table = load_file(write("rows.tsv", "text\tb\n\na\tx\n\t\n\nb\ty\n"), ["text", "b"], None)
    assert (list(table["text"]), list(table["b"])) == (["a", "", "b"], ["x", "", "y"])
