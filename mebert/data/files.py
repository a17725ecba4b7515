"""The user's own rows: CSV, TSV, JSONL and Parquet files, refused with the line that is wrong."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mebert.data.labels import infer_label_names
from mebert.data.tasks import TASKS
from mebert.errors import UserError

if TYPE_CHECKING:
    import datasets

__all__ = ["LINE_COLUMN", "load_file", "own_label_names"]

# Line of each row in its file, counted from 1, kept so that later messages can name it.
LINE_COLUMN = "__line__"

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")

Row = dict[str, object]


def load_file(path: str, text_columns: Sequence[str], label_column: str | None) -> datasets.Dataset:
    """Read an own file; its fingerprint is that of its content, so that its token ids can be cached.

    Args:
        path: File whose ending is one of `ENDINGS`.
        text_columns: Columns that must be there; each becomes a string column.
        label_column: Column of the label, kept as text; None where labels do not matter.

    Returns:
        The text columns, the label column and, for a text file, `LINE_COLUMN`.

    Raises:
        UserError: No file, no rows, a missing column, a malformed line, or a text that is none.
    """
    import datasets

    content = _content(path)
    wanted = [*text_columns] if label_column is None else [*text_columns, label_column]
    columns = _read_columns(path, content, wanted)
    lines = columns.pop(LINE_COLUMN, None)
    data: dict[str, list[str | None] | list[int]] = {
        name: [_as_text(value, name, path, row, lines) for row, value in enumerate(columns[name])]
        for name in text_columns
    }
    if label_column is not None:
        data[label_column] = [None if value is None else str(value) for value in columns[label_column]]
    features = {name: datasets.Value("string") for name in data}
    if lines is not None:
        data[LINE_COLUMN] = [int(str(line)) for line in lines]
        features[LINE_COLUMN] = datasets.Value("int64")
    table = datasets.Dataset.from_dict(data, features=datasets.Features(features))
    key = hashlib.sha256(content + "\0".join(wanted).encode()).hexdigest()[:32]
    return datasets.Dataset(table.data, fingerprint=key)


def own_label_names(
    labels: Sequence[str] | None, regression: bool, train_file: str | None, label_column: str
) -> list[str]:
    """Return the class names of own files: those given, or those that the training file uses.

    Args:
        labels: Names given by the user.
        regression: There are no classes; the one number is called `score`.
        train_file: Read where no names are given.
        label_column: Its label column.

    Raises:
        UserError: Nothing says what the classes are, or it contradicts itself; otherwise as `load_file`.
    """
    if regression:
        if labels is not None:
            raise UserError("labels and regression were both given; a regression has no classes")
        return ["score"]
    if labels is not None:
        names = [str(name) for name in labels]
        if len(names) < 2 or len(set(names)) < len(names):
            raise UserError(f"labels must be two or more different names, not {names}")
        return names
    if train_file is None:
        raise UserError(f"no data: give task ({', '.join(TASKS)}) or train_file; without a train_file, give labels")
    values = _read_columns(train_file, _content(train_file), [label_column])[label_column]
    return infer_label_names(values, f"column {label_column!r} of {train_file}")


def _content(path: str) -> bytes:
    if Path(path).suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: unknown kind of file; its name must end in {', '.join(ENDINGS)}")
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path (it is relative to {Path.cwd()})") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not content.strip():
        raise UserError(f"{path} is empty; it must hold rows with a text column")
    return content


def _read_columns(path: str, content: bytes, wanted: Sequence[str]) -> dict[str, list[object]]:
    """Return the wanted columns of a file, with `LINE_COLUMN` for a text file."""
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, content, wanted)
    text = _decode(path, content)
    if suffix == ".jsonl":
        return _read_jsonl(path, text, wanted)
    return _read_table(path, text, wanted, tabs=suffix == ".tsv")


def _read_parquet(path: str, content: bytes, wanted: Sequence[str]) -> dict[str, list[object]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = pq.read_schema(io.BytesIO(content)).names
        _require(path, there, wanted)
        table = pq.read_table(io.BytesIO(content), columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a usable Parquet file: {str(error).splitlines()[0][:200]}") from error
    if table.num_rows == 0:
        raise UserError(f"{path} has no rows")
    return {name: table.column(name).to_pylist() for name in wanted}


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None


def _read_jsonl(path: str, text: str, wanted: Sequence[str]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {name: [] for name in [*wanted, LINE_COLUMN]}
    there: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error.msg}, column {error.colno})") from None
        except RecursionError:
            raise UserError(f"{path}, line {number}: JSON nested too deeply") from None
        if not isinstance(row, dict):
            raise UserError(f'{path}, line {number}: not a JSON object such as {{"{wanted[0]}": "..."}}')
        there |= dict.fromkeys(row)
        for name in wanted:
            columns[name].append(row.get(name))
        columns[LINE_COLUMN].append(number)
    _require(path, list(there), wanted)
    return columns


def _read_table(path: str, text: str, wanted: Sequence[str], *, tabs: bool) -> dict[str, list[object]]:
    rows = _tab_rows(text) if tabs else _comma_rows(path, text)
    _, header = next(rows)
    _require(path, header, wanted)
    if repeated := [name for name in wanted if header.count(name) > 1]:
        raise UserError(f"{path} has more than one column {repeated[0]!r}; rename one of them")
    places = {name: header.index(name) for name in wanted}
    columns: dict[str, list[object]] = {name: [] for name in [*wanted, LINE_COLUMN]}
    for number, row in rows:
        if len(row) != len(header):
            hint = "texts with tabs or line breaks need CSV or JSONL" if tabs else "quote texts with commas"
            raise UserError(f"{path}, line {number}: {len(row)} field(s) where the header has {len(header)}; {hint}")
        for name, place in places.items():
            columns[name].append(row[place])
        columns[LINE_COLUMN].append(number)
    if not columns[LINE_COLUMN]:
        raise UserError(f"{path} has a header but no rows")
    return columns


def _comma_rows(path: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV file with the line where it starts."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # the default refuses texts above 128 kB
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: malformed CSV ({error})") from None
        if row:
            yield number, row


def _tab_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each line of a TSV file.

    A quote is an ordinary character, as in the TSV files of GLUE and SNLI, unless a whole field is quoted the
    way that spreadsheets and pandas do it.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.removesuffix("\r")
        if stripped.strip():
            yield number, [_unquote(value) for value in stripped.split("\t")]


def _unquote(value: str) -> str:
    inner = value[1:-1]
    quoted = len(value) >= 2 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else value


def _require(path: str, there: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            raise UserError(f"{path} has no column {name!r}; its columns: {', '.join(there)}")


def _as_text(value: object, name: str, path: str, row: int, lines: Sequence[object] | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    where = f"row {row + 1}" if lines is None else f"line {lines[row]}"
    raise UserError(f"{path}, {where}: column {name!r} holds a {type(value).__name__}, not a text")
