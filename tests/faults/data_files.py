"""Own files that cannot be read, or do not say what they should."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.fault import Content, Fault

from mebert.data import TextDataModule

HEAD = "text,label\n"
GOOD = HEAD + "a cat,good\na dog,bad\n"
JSON = '{"text": "a", "label": 0}\n'
ASKED = "text,label,query\n"


def carry(name: str, column: str) -> Callable[[], object]:
    """Prepare a file to predict with a column that stands beside the answers."""

    def prepare() -> TextDataModule:
        named = {"predict_file": name, "id_columns": [column], "labels": ["bad", "good"]}
        data = TextDataModule(tokenizer="tokenizer", max_length=32, **named)
        data.setup("predict")
        return data

    return prepare


def read(name: str, **settings: Any) -> Callable[[], object]:
    """Prepare a file as training and validation data."""

    def prepare() -> TextDataModule:
        files = dict.fromkeys(("train_file", "validation_file"), name)
        data = TextDataModule(**{"tokenizer": "tokenizer", "max_length": 32, **files, **settings})
        data.setup("fit")
        return data

    return prepare


def bad(what: str, content: Content, says: str, ending: str = "csv", **settings: Any) -> Fault:
    """A training file with this content."""
    name = f"bad.{ending}"
    return Fault(what, read(name, **settings), (name, says), {name: content})


def parquet(**columns: list[Any]) -> Callable[[Path], object]:
    """Write a Parquet file."""

    def write(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)

    return write


def torn(path: Path) -> None:
    """Write the first half of a Parquet file."""
    parquet(text=["a", "b"] * 500, label=["x", "y"] * 500)(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def forbidden() -> object:
    """Read a file that this user may not read (root, who may read all, becomes nobody for the time)."""
    Path("bad.csv").chmod(0)
    if os.geteuid() != 0:
        return read("bad.csv")()
    os.seteuid(65534)
    try:
        return read("bad.csv")()
    finally:
        os.seteuid(0)


FAULTS = [
    Fault("a file that is not there", read("none.csv"), "none.csv"),
    bad("a folder with the name of a file", Path.mkdir, "folder"),
    Fault("a file that may not be read", forbidden, "bad.csv", {"bad.csv": GOOD}),
    bad("a pipe", os.mkfifo, "cannot be read twice"),
    bad("an unknown ending", GOOD, ".parquet", "xlsx"),
    bad("a compressed file with the name of a plain one", gzip.compress(GOOD.encode(), mtime=0), "gzip"),
    bad("an empty file", "", "empty"),
    bad("a header and no rows", HEAD, "no rows"),
    bad("a file in Latin-1", (HEAD + "a cat,good\nun café,bad\n").encode("latin-1"), "line 3"),
    bad("a file in UTF-16", GOOD.encode("utf-16"), "UTF-16"),
    bad("NUL bytes in a text", HEAD + "a cat,good\na \0dog,bad\n", "NUL"),
    bad("a row with a field too many", GOOD + "one, two,good\n", "line 4"),
    bad("a row with a field too few", "text\tlabel\na cat\tgood\na dog\n", "line 3", "tsv"),
    bad("quotes that never close", GOOD + '"a cow,good\na pig,bad\n', "line 4"),
    bad("a column twice", "text,label,text\na,good,b\nb,bad,a\n", "'text'"),
    bad("no column of that name", "sentence,label\na,good\nb,bad\n", "sentence"),
    bad("a column named in other case", "Text,label\na,good\nb,bad\n", "did you mean 'Text'?"),
    bad("semicolons in a .csv, one too many", "text;label\na; b;good\n", "line 2: 3 field(s)"),
    bad("tabs in a .csv", "text\tlabel\na\tgood\n", ".tsv"),
    bad("a label that validation rows alone have", HEAD + "a,good\nb,great\n", "'great'", train_file="rows.csv"),
    bad("one class alone", HEAD + "a,good\nb,good\n", "'good'"),
    bad("numbers in the place of classes", HEAD + "a,0.25\nb,0.5\nc,0.75\n", "'0.25'"),
    bad("NaN among the classes", HEAD + "a,good\nb,bad\nc,NaN\n", "'NaN'"),
    bad("class numbers with gaps", HEAD + "a,1\nb,3\n", "--data.labels"),
    bad("-1 beside class numbers", HEAD + "a,-1\nb,0\nc,1\n", "--data.labels"),
    bad("labels that differ in case", HEAD + "a,Good\nb,good\nc,bad\n", "which read the same"),
    bad("several labels in a row", HEAD + 'a,"good,new"\nb,good\n', "--data.label_separator ','"),
    bad("a position where labels are numbers", HEAD + "a,0\nb,1\n", "none of the classes 1, 2", labels=["1", "2"]),
    bad("no label at all", HEAD + "a,\nb,\n", "'label'"),
    bad("a word in the place of a number", HEAD + "a,1.5\nb,high\n", "'high'", regression=True),
    bad("an empty text", GOOD + " ,good\n", "line 4"),
    bad("a JSON line that breaks off", JSON + '{"text": \n', "line 2", "jsonl"),
    bad("a JSON line that is a list", JSON + '["b", 1]\n', "line 2", "jsonl"),
    bad("a text that is a list", JSON + '{"text": ["b"], "label": 1}\n', "a list", "jsonl"),
    bad("a label that is a list", JSON + '{"text": "b", "label": [1]}\n', "'label'", "jsonl"),
    bad("half a surrogate pair in JSON", JSON + '{"text": "\\ud800", "label": 1}\n', "line 2", "jsonl"),
    bad("a Parquet file that was cut off", torn, "Parquet", "parquet"),
    bad("a Parquet column of bytes", parquet(text=[b"a", b"b"], label=[0, 1]), "row 1", "parquet"),
    bad("queries without a relevant answer", ASKED + "a,0,1\nb,0,1\nc,1,2\nd,1,2\n", "4 rows", query_column="query"),
    bad("a row without its query", ASKED + "a,0,1\nb,1,\n", "'query'", query_column="query"),
    Fault(
        "more classes than ranking knows",
        read("bad.csv", query_column="query"),
        "'relevant'",
        {"bad.csv": ASKED + "a,0,1\nb,1,1\nc,2,1\n"},
    ),
    Fault(
        "an unlabelled_file that is not there",
        read("good.csv", unlabelled_file="gone.csv", labels=["good", "bad"]),
        "there is no file gone.csv",
        {"good.csv": GOOD},
    ),
    bad("holdout of one row", HEAD + "a cat,good\n", "holdout", holdout=0.5, labels=["good", "bad"]),
    Fault(
        "predict with a file that lacks a column",
        "predict --config tiny.yaml --ckpt_path best --data.predict_file bad.csv",
        "'hypothesis'",
        {"bad.csv": GOOD},
    ),
    Fault("a column to carry along that is not there", carry("bad.csv", "idd"), "'idd'", {"bad.csv": GOOD}),
]

# What is odd and no mistake: it must be read. Content of a training file and of its name.
STRANGE_BUT_FINE: dict[str, tuple[str, bytes]] = {
    "a byte order mark": ("fine.csv", GOOD.encode("utf-8-sig")),
    "line ends of Windows": ("fine.csv", GOOD.replace("\n", "\r\n").encode()),
    "a cell of a million characters": ("fine.csv", (HEAD + f'"{"a cat " * 200_000}",good\na dog,bad\n').encode()),
    "blank lines": ("fine.csv", GOOD.replace("\n", "\n\n").encode()),
    "numbers as texts": ("fine.jsonl", b'{"text": 7, "label": 0}\n{"text": 7.5, "label": 1}\n'),
    "labels as 1, 1.0 and '1'": (
        "fine.jsonl",
        b'{"text": "a", "label": 1}\n{"text": "b", "label": 1.0}\n'
        b'{"text": "c", "label": "1"}\n{"text": "d", "label": 0}\n',
    ),
    "queries that are not grouped": ("fine.csv", b"text,label,query\na,0,1\nb,0,2\nc,1,1\nd,1,2\n"),
    "no line end at the end": ("fine.csv", GOOD.strip().encode()),
}
