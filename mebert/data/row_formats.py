"""Rows of each kind of file that holds them: CSV, TSV, JSONL, Parquet. `mebert.data.file_rows` chooses among them.

Each yields the line (in a Parquet file the row), from 1, and the wanted values of a row, and names both in its errors.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import chain

from mebert.data.text_lines import unreadable
from mebert.errors import UserError
from mebert.storage.json_values import RepeatedKey, without_repetition

Row = tuple[int, Sequence[object]]

LARGEST_FIELD = 2**31 - 1  # characters; the csv module's default refuses texts above 128 kB
BLOCK = 1000  # rows of a Parquet file that are read together
LONE_CARRIAGE_RETURN = re.compile(r"(?<=\r)(?!\n)")
_EMPTY = "{} is empty; it must hold rows with a text column"


def parquet_values(path: str, wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the wanted values of the rows of a Parquet file."""
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
            raise unreadable(path, error) from None
        raise UserError(f"{path} is not a usable Parquet file: {error}; write or copy it anew") from error


def jsonl_rows(path: str, lines: Iterable[str], wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the wanted values of lines of JSON objects; None for a key that a line does not have."""
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


def table_rows(path: str, rows: Iterator[tuple[int, list[str]]], wanted: Sequence[str], hint: str) -> Iterator[Row]:
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


def csv_rows(path: str, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a CSV file with the line where it starts; an empty list for a blank line."""
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


def tsv_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each line of a TSV file; an empty list for a blank line.

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
