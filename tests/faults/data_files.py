"""Own files that cannot be read, or do not say what they should."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.fault import Fault

from mebert.data import TextDataModule

__all__ = ["FAULTS", "STRANGE_BUT_FINE"]

HEAD = "text,label\n"
GOOD = HEAD + "a cat,good\na dog,bad\n"


def read(name: str = "bad.csv", stage: str = "fit", **settings: Any) -> Callable[[], object]:
    """Prepare the file as training and validation data."""

    def prepare() -> TextDataModule:
        files = dict.fromkeys(("train_file", "validation_file"), name)
        data = TextDataModule(**{"tokenizer": "tokenizer", "max_length": 32, **files, **settings})
        data.setup(stage)
        return data

    return prepare


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
        return read()()
    os.seteuid(65534)
    try:
        return read()()
    finally:
        os.seteuid(0)


FAULTS = [
    Fault("a file that is not there", read("none.csv"), ("none.csv",)),
    Fault("a folder with the name of a file", read(), ("bad.csv",), {"bad.csv": Path.mkdir}),
    Fault("a file that may not be read", forbidden, ("bad.csv",), {"bad.csv": GOOD}),
    Fault("a link to itself", read(), ("bad.csv",), {"bad.csv": lambda path: path.symlink_to(path.name)}),
    Fault("an unknown ending", read("bad.xlsx"), ("bad.xlsx",), {"bad.xlsx": GOOD}),
    Fault("a compressed file", read("bad.csv.gz"), ("bad.csv.gz",), {"bad.csv.gz": gzip.compress(GOOD.encode())}),
    Fault(
        "a compressed file with the name of a plain one",
        read(),
        ("bad.csv",),
        {"bad.csv": gzip.compress(GOOD.encode(), mtime=0)},
    ),
    Fault("an empty file", read(), ("bad.csv",), {"bad.csv": ""}),
    Fault("a header and no rows", read(), ("bad.csv",), {"bad.csv": HEAD}),
    Fault(
        "a file in Latin-1", read(), ("bad.csv",), {"bad.csv": (HEAD + "a cat,good\nun café,bad\n").encode("latin-1")}
    ),
    Fault("a file in UTF-16", read(), ("bad.csv",), {"bad.csv": GOOD.encode("utf-16")}),
    Fault("NUL bytes in a text", read(), ("bad.csv",), {"bad.csv": HEAD + "a cat,good\na \0dog,bad\n"}),
    Fault(
        "NUL bytes in TSV",
        read("bad.tsv"),
        ("bad.tsv, line 3",),
        {"bad.tsv": "text\tlabel\na cat\tgood\na \0dog\tbad\n"},
    ),
    Fault("a row with a field too many", read(), ("bad.csv, line 4",), {"bad.csv": GOOD + "one, two,good\n"}),
    Fault(
        "a row with a field too few",
        read("bad.tsv"),
        ("bad.tsv, line 3",),
        {"bad.tsv": "text\tlabel\na cat\tgood\na dog\n"},
    ),
    Fault("quotes that never close", read(), ("bad.csv, line 4",), {"bad.csv": GOOD + '"a cow,good\na pig,bad\n'}),
    Fault(
        "a column twice", read(), ("bad.csv", "'text'", "rename"), {"bad.csv": "text,label,text\na,good,b\nb,bad,a\n"}
    ),
    Fault(
        "no column of that name",
        read(),
        ("bad.csv", "'text'", "sentence"),
        {"bad.csv": "sentence,label\na,good\nb,bad\n"},
    ),
    Fault(
        "a column named in other case",
        read(),
        ("bad.csv", "'text'", "did you mean 'Text'?"),
        {"bad.csv": "Text,label\na,good\nb,bad\n"},
    ),
    Fault("semicolons in a .csv", read(), ("bad.csv", "'label'"), {"bad.csv": "text;label\na;good\n"}),
    Fault("tabs in a .csv", read(), ("bad.csv", "'label'"), {"bad.csv": "text\tlabel\na\tgood\n"}),
    Fault("no label column", read(), ("bad.csv", "'label'"), {"bad.csv": "text,class\na,good\nb,bad\n"}),
    Fault(
        "a label that validation rows alone have",
        read(train_file="rows.csv"),
        ("bad.csv, line 3", "'great'"),
        {"bad.csv": HEAD + "a,good\nb,great\n"},
    ),
    Fault(
        "a class number too large",
        read(labels=["no", "yes"]),
        ("bad.csv, line 3", "'2'"),
        {"bad.csv": HEAD + "a,0\nb,2\n"},
    ),
    Fault("one class alone", read(), ("bad.csv", "'label'", "'good'"), {"bad.csv": HEAD + "a,good\nb,good\n"}),
    Fault(
        "numbers in the place of classes",
        read(),
        ("bad.csv", "'label'", "'0.25'"),
        {"bad.csv": HEAD + "a,0.25\nb,0.5\nc,0.75\n"},
    ),
    Fault("class numbers with a point", read(), ("bad.csv", "'0.0'"), {"bad.csv": HEAD + "a,0.0\nb,1.0\n"}),
    Fault("NaN among the classes", read(), ("bad.csv", "'NaN'"), {"bad.csv": HEAD + "a,good\nb,bad\nc,NaN\n"}),
    Fault("class numbers with gaps", read(), ("bad.csv", "'label'"), {"bad.csv": HEAD + "a,1\nb,2\n"}),
    Fault("no label at all", read(), ("bad.csv", "'label'"), {"bad.csv": HEAD + "a,\nb,\n"}),
    Fault(
        "no label in the validation rows",
        read(train_file="rows.csv"),
        ("bad.csv, line 3", "'NaN'"),
        {"bad.csv": HEAD + "a,\nb,NaN\n"},
    ),
    Fault(
        "a word in the place of a number",
        read(regression=True),
        ("bad.csv, line 3", "'high'"),
        {"bad.csv": HEAD + "a,1.5\nb,high\n"},
    ),
    Fault(
        "an infinite number", read(regression=True), ("bad.csv, line 3", "'inf'"), {"bad.csv": HEAD + "a,1.5\nb,inf\n"}
    ),
    Fault("an empty text", read(), ("bad.csv, line 4", "'text'"), {"bad.csv": GOOD + " ,good\n"}),
    Fault(
        "a JSON line that breaks off",
        read("bad.jsonl"),
        ("bad.jsonl, line 2",),
        {"bad.jsonl": '{"text": "a", "label": 0}\n{"text": \n'},
    ),
    Fault(
        "a JSON line that is a list",
        read("bad.jsonl"),
        ("bad.jsonl, line 2",),
        {"bad.jsonl": '{"text": "a", "label": 0}\n["b", 1]\n'},
    ),
    Fault(
        "a JSON array in the place of lines",
        read("bad.jsonl"),
        ("bad.jsonl, line 1",),
        {"bad.jsonl": '[\n{"text": "a", "label": 0}\n]\n'},
    ),
    Fault(
        "a text that is a list",
        read("bad.jsonl"),
        ("bad.jsonl, line 1", "'text'", "a list"),
        {"bad.jsonl": '{"text": ["a"], "label": 0}\n{"text": "b", "label": 1}\n'},
    ),
    Fault(
        "a text that is a truth value",
        read("bad.jsonl"),
        ("bad.jsonl, line 2", "'text'"),
        {"bad.jsonl": '{"text": "a", "label": 0}\n{"text": true, "label": 1}\n'},
    ),
    Fault(
        "a label that is a list",
        read("bad.jsonl"),
        ("bad.jsonl, line 2", "'label'"),
        {"bad.jsonl": '{"text": "a", "label": 0}\n{"text": "b", "label": [1]}\n'},
    ),
    Fault(
        "a text key that a JSON line lacks",
        read("bad.jsonl"),
        ("bad.jsonl, line 2", "'text'"),
        {"bad.jsonl": '{"text": "a", "label": 0}\n{"txt": "b", "label": 1}\n'},
    ),
    Fault(
        "half a surrogate pair in JSON",
        read("bad.jsonl"),
        ("bad.jsonl, line 2", "'text'"),
        {"bad.jsonl": '{"text": "a", "label": 0}\n{"text": "\\ud800", "label": 1}\n'},
    ),
    Fault("a Parquet file that was cut off", read("bad.parquet"), ("bad.parquet",), {"bad.parquet": torn}),
    Fault("a CSV file with the name of Parquet", read("bad.parquet"), ("bad.parquet",), {"bad.parquet": GOOD}),
    Fault(
        "a Parquet column of lists",
        read("bad.parquet"),
        ("bad.parquet, row 1", "'text'"),
        {"bad.parquet": parquet(text=[["a"], ["b"]], label=[0, 1])},
    ),
    Fault(
        "a Parquet column of bytes",
        read("bad.parquet"),
        ("bad.parquet, row 1", "'text'"),
        {"bad.parquet": parquet(text=[b"a", b"b"], label=[0, 1])},
    ),
    Fault(
        "questions without a right answer",
        read(query_column="query"),
        ("bad.csv",),
        {"bad.csv": "text,label,query\n" + "a,0,1\nb,0,1\nc,1,2\nd,1,2\n"},
    ),
    Fault(
        "a row without its question",
        read(query_column="query"),
        ("bad.csv, line 3", "'query'"),
        {"bad.csv": "text,label,query\na,0,1\nb,1,\n"},
    ),
    Fault(
        "more classes than ranking knows",
        read(query_column="query"),
        ("'relevant'",),
        {"bad.csv": "text,label,query\na,0,1\nb,1,1\nc,2,1\n"},
    ),
    Fault(
        "holdout of one row",
        read(holdout=0.5, labels=["good", "bad"]),
        ("bad.csv",),
        {"bad.csv": HEAD + "a cat,good\n"},
    ),
    Fault(
        "fit with a broken file",
        "fit --config own.yaml --data.train_file bad.csv",
        ("bad.csv, line 4",),
        {"bad.csv": GOOD + "x\n"},
    ),
    Fault(
        "predict with a file that lacks a column",
        "predict --config tiny.yaml --ckpt_path best --data.predict_file bad.csv",
        ("bad.csv", "'hypothesis'"),
        {"bad.csv": GOOD},
        run=True,
    ),
]

csv_huge = HEAD + '"' + "a cat " * 200_000 + '",good\na dog,bad\n'

# What is odd and no mistake: it must be read. Content of a training file and of its name.
STRANGE_BUT_FINE: dict[str, tuple[str, bytes]] = {
    "a byte order mark": ("fine.csv", GOOD.encode("utf-8-sig")),
    "line ends of Windows": ("fine.csv", GOOD.replace("\n", "\r\n").encode()),
    "a cell of a million characters": ("fine.csv", csv_huge.encode()),
    "fewer rows than a batch": ("fine.csv", GOOD.encode()),
    "blank lines": ("fine.csv", GOOD.replace("\n", "\n\n").encode()),
    "numbers as texts": ("fine.jsonl", b'{"text": 7, "label": 0}\n{"text": 7.5, "label": 1}\n'),
    "labels as 1, 1.0 and '1'": (
        "fine.jsonl",
        b'{"text": "a", "label": 1}\n{"text": "b", "label": 1.0}\n'
        b'{"text": "c", "label": "1"}\n{"text": "d", "label": 0}\n',
    ),
    "questions that are not grouped": ("fine.csv", b"text,label,query\na,0,1\nb,0,2\nc,1,1\nd,1,2\n"),
    "no line end at the end": ("fine.csv", GOOD.strip().encode()),
}
