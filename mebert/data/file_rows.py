"""The rows of a CSV, TSV, JSONL or Parquet file, one after another; an error names the file and the line.

The fields of a CSV file are separated by commas or, as spreadsheets write them where a comma is the decimal mark, by
semicolons: its header says which.

Files are read in binary and decoded line by line, because Python's text files do not tell the line that is not UTF-8.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mebert.data.file_state import FileState
from mebert.errors import UserError
from mebert.storage.json_values import RepeatedKey, without_repetition

LINE_COLUMN = "__line__"
"""Column with the line (from 1) of each row of a text file, for later error messages."""

Row = tuple[int, Sequence[object]]

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
LARGEST_FIELD = 2**31 - 1  # characters; the csv module's default refuses texts above 128 kB
ROWS_OF_COLUMNS = 1000  # of a JSONL file, whose keys are its columns
BLOCK = 1000  # rows of a Parquet file that are read together
LONE_CARRIAGE_RETURN = re.compile(r"(?<=\r)(?!\n)")

_EMPTY = "{} is empty; it must hold rows with a text column"
SAVE_AS = "save the file as UTF-8"
# How files start that are taken for text by mistake.
OTHER_KINDS = {
    b"\xff\xfe": ("UTF-16 text", SAVE_AS),
    b"\xfe\xff": ("UTF-16 text", SAVE_AS),
    b"\x1f\x8b": ("compressed by gzip", "unpack it first"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or save the table as CSV"),
    b"PAR1": ("a Parquet file", "let its name end in .parquet"),
}


def file_rows(path: str, wanted: Sequence[str], state: FileState | None = None) -> Iterator[Row]:
    """Yield the line (in a Parquet file the row), from 1, and the wanted values of each row.

    Raises:
        UserError: A row is malformed; or the file changed since it was in `state` (null: since its first row was read).
    """
    if LINE_COLUMN in wanted:
        raise UserError(f"{path}: a column {LINE_COLUMN!r} cannot be read, since mebert has one of its own; rename it")
    suffix = Path(path).suffix.lower()
    if suffix not in ENDINGS:
        raise UserError(f"{path}: unknown kind of file; its name must end in {', '.join(ENDINGS)}")
    return _unchanged(path, _rows(path, suffix, wanted), state)


def column_names(path: str) -> list[str]:
    """The names of a file's columns, in its order; in a JSONL file the keys of its first rows.

    Raises:
        UserError: The file is empty or malformed there, or of another kind.
    """
    next(file_rows(path, []), None)  # says what is wrong with the file
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(path).names)
    if suffix == ".jsonl":
        first = islice((line for line in text_lines(path) if line.strip()), ROWS_OF_COLUMNS)
        return list(dict.fromkeys(name for line in first for name in _json_object(line)))
    rows = _tsv_rows(text_lines(path)) if suffix == ".tsv" else _csv_rows(path, text_lines(path))
    return next((row for _, row in rows if row), [])


def _json_object(line: str) -> dict[str, Any]:
    """A line's object; an empty one of a line that `file_rows` will refuse."""
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        return found if isinstance(found, dict) else {}
    return {}


def file_state(path: str) -> FileState:
    """The state of a file that is there and can be read twice."""
    try:
        return FileState.of(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def parquet_rows(path: str) -> int | None:
    """The number of rows that a Parquet file says it has; None for other files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if has_lines(path):
        return None
    with suppress(pa.ArrowException, OSError):  # what is damaged is told when it is read
        return int(pq.read_metadata(path).num_rows)
    return None


def _unchanged(path: str, rows: Iterator[Row], state: FileState | None) -> Iterator[Row]:
    """The same rows; raises at their end, or instead of an error of theirs, if the file has changed."""
    if state is None:
        state = file_state(path)
    else:
        state.check(path)
    try:
        yield from rows
    except UserError:
        state.check(path)
        raise
    state.check(path)


def _rows(path: str, suffix: str, wanted: Sequence[str]) -> Iterator[Row]:
    if suffix == ".parquet":
        return _parquet_rows(path, wanted)
    if suffix == ".jsonl":
        return _jsonl_rows(path, text_lines(path), wanted)
    rows = _tsv_rows(text_lines(path)) if suffix == ".tsv" else _csv_rows(path, text_lines(path))
    hint = "texts with tabs or line breaks need CSV or JSONL" if suffix == ".tsv" else "quote texts with separators"
    return _table_rows(path, rows, wanted, hint)


def has_lines(path: str) -> bool:
    """Whether rows of this file are counted in lines, as in a text file."""
    return Path(path).suffix.lower() != ".parquet"


def describe_place(path: str, number: int) -> str:
    """Name a row by what `file_rows` counts: `rows.csv, line 3` or `rows.parquet, row 2`."""
    return f"{path}, {'line' if has_lines(path) else 'row'} {number}"


def text_lines(path: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file with their ends, without a byte order mark."""
    try:
        with open(path, "rb") as file:
            yield from decoded_lines(path, file)
    except OSError as error:
        raise _unreadable(path, error) from None


def decoded_lines(name: str, file: Iterable[bytes]) -> Iterator[str]:
    """Yield lines of bytes as `text_lines` does, one as soon as it is there; `name` is for errors."""
    for number, raw in enumerate(file, start=1):
        yield _decoded(name, number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw)


def _decoded(path: str, number: int, raw: bytes) -> str:
    if number == 1:
        for start, (what, advice) in OTHER_KINDS.items():
            if raw.startswith(start):
                raise UserError(f"{path} is {what}, not UTF-8 text; {advice}")
    if b"\0" in raw:  # UTF-16 without a byte order mark
        raise UserError(f"{path}, line {number}: a NUL byte, so this is not UTF-8 text; {SAVE_AS}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}, line {number}: not UTF-8 text; {SAVE_AS}") from None


def _unreadable(path: str, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"there is no file {path}; check the path (it is relative to {Path.cwd()})")
    if isinstance(error, IsADirectoryError):
        return UserError(f"{path} is a folder; name the file in it")
    return UserError(f"cannot read {path}: {error.strerror or error}; give a file that can be read")


def _parquet_rows(path: str, wanted: Sequence[str]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open(path, "rb") as opened:  # Python's errors say more than Arrow's
            if not os.path.getsize(path):
                raise UserError(_EMPTY.format(path))
            file = pq.ParquetFile(opened)
            _require(path, file.schema_arrow.names, wanted)
            if not file.metadata.num_rows:
                raise UserError(f"{path} has no rows; it must hold at least one")
            blocks = file.iter_batches(batch_size=BLOCK, columns=list(wanted))
            if repeated := [name for name in wanted if file.schema_arrow.names.count(name) > 1]:
                raise UserError(f"{path} has more than one column {repeated[0]!r}; rename one of them")
            rows = (zip(*(block[name].to_pylist() for name in wanted), strict=True) for block in blocks)
            yield from enumerate(chain.from_iterable(rows), start=1)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0][:200].rstrip(".")
        raise UserError(f"{path} is not a usable Parquet file: {reason}; write or copy it anew") from error
    except OSError as error:
        if error.errno is not None:
            raise _unreadable(path, error) from None
        raise UserError(f"{path} is not a usable Parquet file: {error}; write or copy it anew") from error


def _jsonl_rows(path: str, lines: Iterable[str], wanted: Sequence[str]) -> Iterator[Row]:
    there: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=without_repetition)
        except json.JSONDecodeError as error:
            what = f"not JSON ({error.msg}, column {error.colno}); each line must be one object"
            raise UserError(f"{path}, line {number}: {what}") from None
        except RepeatedKey as error:
            raise UserError(f"{path}, line {number}: {error} in one object; keep one of them") from None
        except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
            what = "nested too deeply" if isinstance(error, RecursionError) else "with a number too long to read"
            raise UserError(f"{path}, line {number}: JSON {what}; correct the line or remove it") from None
        if not isinstance(row, dict):
            what = f'a {type(row).__name__}, not a JSON object; write such as {{"{(wanted or ["text"])[0]}": "..."}}'
            raise UserError(f"{path}, line {number}: {what}")
        there |= dict.fromkeys(row)
        yield number, [row.get(name) for name in wanted]
    _require(path, list(there), wanted)


def _table_rows(path: str, rows: Iterator[tuple[int, list[str]]], wanted: Sequence[str], hint: str) -> Iterator[Row]:
    """Yield the wanted fields of rows, of which the first one is the header; an empty list is a blank line.

    In a file of one column a blank line is a row with an empty text, unless only blank lines follow.
    """
    header = next((row for _, row in rows if row), [])
    _require(path, header if any(map(str.strip, header)) else [], wanted)
    if repeated := [name for name in wanted if header.count(name) > 1]:
        raise UserError(f"{path} has more than one column {repeated[0]!r}; rename one of them")
    places = [header.index(name) for name in wanted]
    found, blank = False, list[int]()
    for number, row in rows:
        if not row:
            blank += [number] * (len(header) == 1)
            continue
        yield from ((line, [""] * len(places)) for line in blank)
        blank.clear()
        if len(row) != len(header):
            raise UserError(f"{path}, line {number}: {len(row)} field(s) where the header has {len(header)}; {hint}")
        found = True
        yield number, [row[place] for place in places]
    if not found:
        raise UserError(f"{path} has a header but no rows; it must hold at least one")


def _csv_rows(path: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV file with the line where it starts; none of its fields for a blank line."""
    csv.field_size_limit(LARGEST_FIELD)
    # Some files end their lines by a carriage return alone.
    split = (part for line in lines for part in LONE_CARRIAGE_RETURN.split(line) if part)
    start = list[str]()  # blank lines, and the header
    for line in split:
        start.append(line)
        if line.strip():
            break
    reader = csv.reader(chain(start, split), delimiter=_separator("".join(start[-1:])), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "close the quotes that open there, and double those within a text"
            raise UserError(f"{path}, line {number}: malformed CSV ({error}); {hint}") from None
        yield number, row


def _separator(header: str) -> str:
    """What separates the fields of a CSV file: the mark that gives its header more columns, a comma if both do."""
    columns = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in (",", ";")}
    return max(columns, key=lambda mark: columns[mark])


def _tsv_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each line of a TSV file; none for a blank line.

    A quote is an ordinary character, as in GLUE's files, unless a whole field is quoted, as spreadsheets do it.
    """
    for number, line in enumerate(lines, start=1):
        stripped = line.removesuffix("\n").removesuffix("\r")
        blank = not stripped.strip() and "\t" not in stripped
        yield number, [] if blank else [_unquoted(value) for value in stripped.split("\t")]


def _unquoted(value: str) -> str:
    inner = value[1:-1]
    quoted = len(value) >= 2 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else value


def _require(path: str, there: Sequence[str], wanted: Sequence[str]) -> None:
    if not there:
        raise UserError(_EMPTY.format(path))
    for name in wanted:
        if name not in there:
            raise no_column(path, name, there)


def no_column(path: str, name: str, there: Sequence[str], option: str = "", likely: str | None = None) -> UserError:
    """The error for a column that is not there; `option` is what named it, `likely` what else may be meant."""
    same = {column.strip().lower(): column for column in there}
    if len(there) == 1 and "\t" in there[0]:
        advice = "; it seems to be separated by tabs: let its name end in .tsv"
    elif meant := next((same[key] for key in get_close_matches(name.strip().lower(), same, n=1)), likely):
        advice = f"; did you mean {meant!r}?"
    else:
        advice = "" if option else "; name the right one in the settings (text_column, label_column, id_columns, ...)"
    named_by = f"--{option}: " if option else ""
    return UserError(f"{named_by}{path} has no column {name!r}; its columns: {', '.join(there)}{advice}")
