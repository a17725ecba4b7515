"""The columns of a CSV, TSV, JSONL or Parquet file, refused with the line that is wrong."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from mebert.errors import UserError

__all__ = ["LINE_COLUMN", "check_ending", "decode_text", "read_bytes", "read_columns", "read_content", "text_rows"]

# Line of each row in its file, counted from 1, kept so that later messages can name it.
LINE_COLUMN = "__line__"

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")

LARGEST_FIELD = 2**31 - 1  # characters
CARRIAGE_RETURN = re.compile(r"(?<=\r)(?!\n)")  # behind one that no line feed follows

# How files begin that are taken for text by mistake.
SAVE_AS = "save the file as UTF-8"
OTHER_KINDS = {
    b"\xff\xfe": ("UTF-16 text", SAVE_AS),
    b"\xfe\xff": ("UTF-16 text", SAVE_AS),
    b"\x1f\x8b": ("compressed by gzip", "unpack it first"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or save the table as CSV"),
    b"PAR1": ("a Parquet file", "let its name end in .parquet"),
}


def read_content(path: str) -> bytes:
    """Return the bytes of a file of a known kind.

    Raises:
        UserError: It cannot be read, is empty, or its name has another ending.
    """
    check_ending(path)
    content = read_bytes(path)
    if not content.strip():
        raise UserError(f"{path} is empty; it must hold rows with a text column")
    return content


def check_ending(path: str) -> None:
    """Raise a UserError for a file whose name does not say a known kind."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise UserError(f"{path}: unknown kind of file; its name must end in {', '.join(ENDINGS)}")


def read_bytes(path: str) -> bytes:
    """Return the bytes of any file.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path (it is relative to {Path.cwd()})") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name the file in it") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; give a file that can be read") from error


def read_columns(path: str, content: bytes, wanted: Sequence[str]) -> dict[str, list[object]]:
    """Return the wanted columns of a file, with `LINE_COLUMN` for a text file.

    Args:
        path: Its name, whose ending says how it is read.
        content: Its bytes.
        wanted: Names of columns.

    Raises:
        UserError: It has no rows, not all of the columns, or a malformed line.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, content, wanted)
    columns: dict[str, list[object]] = {name: [] for name in [*wanted, LINE_COLUMN]}
    for number, row in text_rows(path, io.StringIO(decode_text(path, content), newline="\n"), wanted):
        for name, value in zip(wanted, row, strict=True):
            columns[name].append(value)
        columns[LINE_COLUMN].append(number)
    return columns


def text_rows(path: str, lines: Iterable[str], wanted: Sequence[str]) -> Iterator[tuple[int, list[object]]]:
    """Yield the line (from 1) and the wanted values of each row of a CSV, TSV or JSONL file.

    Args:
        path: Its name, whose ending says how it is read.
        lines: Its lines with their ends (line feeds), read no faster than the rows are asked for.
        wanted: Names of columns.

    Raises:
        UserError: It has no rows, not all of the columns, or a malformed line.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".jsonl":
        return _jsonl_rows(path, lines, wanted)
    return _table_rows(path, lines, wanted, tabs=suffix == ".tsv")


def _read_parquet(path: str, content: bytes, wanted: Sequence[str]) -> dict[str, list[object]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        there = pq.read_schema(io.BytesIO(content)).names
        _require(path, there, wanted)
        table = pq.read_table(io.BytesIO(content), columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200].rstrip(".")
        raise UserError(f"{path} is not a usable Parquet file: {reason}; write or copy it anew") from error
    if table.num_rows == 0:
        raise UserError(f"{path} has no rows; it must hold at least one")
    return {name: table.column(name).to_pylist() for name in wanted}


def decode_text(path: str, content: bytes) -> str:
    """Return the content of a file as text, without a byte order mark.

    Raises:
        UserError: It is not UTF-8.
    """
    for start, (what, advice) in OTHER_KINDS.items():
        if content.startswith(start):
            raise UserError(f"{path} is {what}, not UTF-8 text; {advice}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    if "\0" in text:  # UTF-16 without a mark at its front reads like this, too
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path}, line {line}: a NUL byte, so this is not UTF-8 text; save the file as UTF-8")
    return text


def _jsonl_rows(path: str, lines: Iterable[str], wanted: Sequence[str]) -> Iterator[tuple[int, list[object]]]:
    there: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}, line {number}: not JSON ({error.msg}, column {error.colno}); each line must be one object"
            ) from None
        except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
            what = "nested too deeply" if isinstance(error, RecursionError) else "with a number too long to read"
            raise UserError(f"{path}, line {number}: JSON {what}; correct the line or remove it") from None
        if not isinstance(row, dict):
            example = f'{{"{wanted[0]}": "..."}}'
            raise UserError(
                f"{path}, line {number}: a {type(row).__name__}, not a JSON object; write such as {example}"
            )
        there |= dict.fromkeys(row)
        yield number, [row.get(name) for name in wanted]
    _require(path, list(there), wanted)


def _table_rows(
    path: str, lines: Iterable[str], wanted: Sequence[str], *, tabs: bool
) -> Iterator[tuple[int, list[object]]]:
    rows = _tab_rows(lines) if tabs else _comma_rows(path, lines)
    _, header = next(rows, (0, []))
    _require(path, header, wanted)
    if repeated := [name for name in wanted if header.count(name) > 1]:
        raise UserError(f"{path} has more than one column {repeated[0]!r}; rename one of them")
    places = [header.index(name) for name in wanted]
    number = 0
    for number, row in rows:
        if len(row) != len(header):
            hint = "texts with tabs or line breaks need CSV or JSONL" if tabs else "quote texts with commas"
            raise UserError(f"{path}, line {number}: {len(row)} field(s) where the header has {len(header)}; {hint}")
        yield number, [row[place] for place in places]
    if not number:
        raise UserError(f"{path} has a header but no rows; it must hold at least one")


def _comma_rows(path: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV file with the line where it starts."""
    csv.field_size_limit(LARGEST_FIELD)  # the default refuses texts above 128 kB
    # The lines of files that end them by a carriage return alone, too.
    reader = csv.reader((part for line in lines for part in CARRIAGE_RETURN.split(line) if part), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "close the quotes that open there, and double those within a text"
            raise UserError(f"{path}, line {number}: malformed CSV ({error}); {hint}") from None
        if row:
            yield number, row


def _tab_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each line of a TSV file.

    A quote is an ordinary character, as in the TSV files of GLUE and SNLI, unless a whole field is quoted the
    way that spreadsheets and pandas do it.
    """
    for number, line in enumerate(lines, start=1):
        stripped = line.removesuffix("\n").removesuffix("\r")
        if stripped.strip():
            yield number, [_unquote(value) for value in stripped.split("\t")]


def _unquote(value: str) -> str:
    inner = value[1:-1]
    quoted = len(value) >= 2 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else value


def _require(path: str, there: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            raise UserError(f"{path} has no column {name!r}; its columns: {', '.join(there)}{_hint(name, there)}")


def _hint(name: str, there: Sequence[str]) -> str:
    """What may be meant by a column that is not there."""
    other = {"\t": "tabs: let its name end in .tsv", ";": "semicolons: save it with commas"}
    separated = [text for mark, text in other.items() if len(there) == 1 and mark in there[0]]
    if separated:
        return f"; it seems to be separated by {separated[0]}"
    same = {column.strip().lower(): column for column in there}
    near = get_close_matches(name.strip().lower(), same, n=1)
    return f"; did you mean {same[near[0]]!r}?" if near else "; name one of these by the setting that asks for it"
