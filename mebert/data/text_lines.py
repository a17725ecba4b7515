"""The lines of a text file, with an error that names the line which is not UTF-8.

Files are read in binary and decoded line by line, because Python's text files do not tell that line.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from mebert.errors import UserError

SAVE_AS = "save the file as UTF-8"
# How files start that are taken for text by mistake.
OTHER_KINDS = {
    b"\xff\xfe": ("UTF-16 text", SAVE_AS),
    b"\xfe\xff": ("UTF-16 text", SAVE_AS),
    b"\x1f\x8b": ("compressed by gzip", "unpack it first"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or save the table as CSV"),
    b"PAR1": ("a Parquet file", "let its name end in .parquet"),
}


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
        raise unreadable(path, error) from None


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


def unreadable(path: str, error: OSError) -> UserError:
    """The error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"there is no file {path}; check the path (it is relative to {Path.cwd()})")
    if isinstance(error, IsADirectoryError):
        return UserError(f"{path} is a folder; name the file in it")
    return UserError(f"cannot read {path}: {error.strerror or error}; give a file that can be read")
