"""The user's own rows: CSV, TSV, JSONL and Parquet files, refused with the line that is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mebert.data.file_columns import LINE_COLUMN, read_columns, read_content
from mebert.data.file_rows import file_rows
from mebert.data.labels import infer_label_names, label_text
from mebert.data.mapped_files import is_large, map_rows
from mebert.data.tasks import TASKS
from mebert.errors import UserError

if TYPE_CHECKING:
    import datasets

__all__ = ["LINE_COLUMN", "load_file", "own_label_names"]


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

    wanted = [*text_columns] if label_column is None else [*text_columns, label_column]
    if is_large(path):
        return map_rows(path, wanted, partial(_large_rows, path, text_columns, label_column))
    content = read_content(path)
    columns = read_columns(path, content, wanted)
    lines = columns.pop(LINE_COLUMN, None)
    data: dict[str, list[str | None] | list[int]] = {
        name: [as_text(value, name, path, row, lines) for row, value in enumerate(columns[name])]
        for name in text_columns
    }
    if label_column is not None:
        data[label_column] = _label_texts(columns[label_column], label_column, path, lines)
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
            raise UserError("labels and regression were both given; a regression has no classes, give one of them")
        return ["score"]
    if labels is not None:
        names = [str(name) for name in labels]
        if len(names) < 2 or len(set(names)) < len(names):
            raise UserError(f"labels must be two or more different names, not {names}")
        return names
    if train_file is None:
        raise UserError(f"no data: give task ({', '.join(TASKS)}) or train_file; without a train_file, give labels")
    if is_large(train_file):
        places: dict[str | None, None] = {}  # each label once
        for row in _large_rows(train_file, (), label_column):
            places.setdefault(str(row[label_column]) if row[label_column] is not None else None)
        return infer_label_names(list(places), f"column {label_column!r} of {train_file}")
    columns = read_columns(train_file, read_content(train_file), [label_column])
    _label_texts(columns[label_column], label_column, train_file, columns.get(LINE_COLUMN))  # says what is none
    return infer_label_names(columns[label_column], f"column {label_column!r} of {train_file}")


def _large_rows(path: str, text_columns: Sequence[str], label_column: str | None) -> Iterator[dict[str, object]]:
    """Yield each row as `load_file` would have it."""
    wanted = [*text_columns] if label_column is None else [*text_columns, label_column]
    in_lines = Path(path).suffix.lower() != ".parquet"
    for row, (number, values) in enumerate(file_rows(path, wanted)):
        lines = [number] if in_lines else None
        found: dict[str, object] = {
            name: as_text(value, name, path, 0 if in_lines else row, lines)
            for name, value in zip(text_columns, values, strict=False)
        }
        if label_column is not None:
            (found[label_column],) = _label_texts(values[-1:], label_column, path, lines, 0 if in_lines else row)
        yield found | ({LINE_COLUMN: number} if in_lines else {})


def as_text(value: object, name: str, path: str, row: int, lines: Sequence[object] | None) -> str | None:
    if value is None or (isinstance(value, str) and _is_whole(value)):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise UserError(
        f"{_where(path, row, lines)}: column {name!r} holds {_described(value)}, not a text; write one there, or "
        "name another column"
    )


def _label_texts(
    values: Sequence[object], name: str, path: str, lines: Sequence[object] | None, first: int = 0
) -> list[str | None]:
    """The labels as text, refused where one is neither a name nor a number; those of the rows from `first` on."""
    for row, value in enumerate(values, start=first):
        plain = value is None or isinstance(value, int | float) or (isinstance(value, str) and _is_whole(value))
        if not plain:
            where = f"{_where(path, row, lines)}: column {name!r}"
            raise UserError(f"{where} holds {_described(value)}, not a label; write a name or a number there")
    return [None if value is None else label_text(value) for value in values]


def _where(path: str, row: int, lines: Sequence[object] | None) -> str:
    return f"{path}, row {row + 1}" if lines is None else f"{path}, line {lines[row]}"


def _is_whole(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON can hold half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _described(value: object) -> str:
    kinds = {list: "a list", dict: "an object", bool: "a truth value", bytes: "bytes", str: "half a character"}
    return kinds.get(type(value), f"a {type(value).__name__}")
