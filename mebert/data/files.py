"""The user's own rows: a file as a table, in memory or (a large one) as an Arrow file in the cache, mapped."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.data.file_rows import LINE_COLUMN, file_rows, file_state, parquet_rows
from mebert.data.file_state import FileState
from mebert.data.label_names import (
    check_names,
    infer_label_names,
    infer_set_names,
    is_missing,
    is_number,
    label_text,
    option,
)
from mebert.data.tasks import TASKS
from mebert.data.text_lines import describe_place, has_lines
from mebert.errors import UserError
from mebert.storage.atomic import atomic_path

if TYPE_CHECKING:
    import datasets

LARGE = 100_000_000
"""Bytes from which on a file is not read into memory."""

LEAST_ROW = 100
"""Bytes that a row takes in memory at least; a Parquet file may hold millions of equal ones in a few kilobytes."""


def cache_folder() -> Path:
    """Return mebert's folder in the cache of Hugging Face's `datasets`."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "mebert"


def is_large(path: str) -> bool:
    """Whether there is such a file, and it is large, or would be in memory."""
    return os.path.isfile(path) and max(os.path.getsize(path), LEAST_ROW * (parquet_rows(path) or 0)) >= LARGE


@dataclass(frozen=True)
class LabelForm:
    """How the cells of a label column are read: one label each, or (`several`) a set of them.

    A set is a list (JSONL, Parquet), or a text whose labels the `separator` parts; None: as it is, one label. An empty
    text or list is a row with none of the labels, a missing value (null) one that is not labelled.
    """

    several: bool = False
    separator: str | None = None

    def parts(self, value: object) -> list[object] | None:
        """The labels of a cell of several, as they are written; None where it is not labelled."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, str):
            value = [value] if self.separator is None else value.split(self.separator)
        return [one for one in (value if isinstance(value, list) else [value]) if not is_missing(one)]

    def names_of(self, value: object, column: str, path: str, number: int) -> list[str] | None:
        """The labels of a cell of several in their one spelling, each once; None where it is not labelled."""
        parts = self.parts(value)
        if parts is None:
            return None
        texts = [as_text(one, column, path, number, is_label=True) for one in parts]
        return list(dict.fromkeys(text for text in texts if text is not None))


ONE_LABEL = LabelForm()


def label_form(paths: Sequence[str], label_column: str, separator: str | None) -> LabelForm:
    """How own files give labels: several a row with a `separator`, or where the first label of a file is a list."""
    if separator is not None:
        if not separator:
            raise UserError("label_separator is empty; give what parts the labels of a row, such as ','")
        return LabelForm(True, separator)
    for path in paths:
        if not os.path.isfile(path) or Path(path).suffix.lower() not in (".jsonl", ".parquet"):
            continue
        with suppress(UserError):  # what is wrong with a file is told when its rows are read
            values = (value for _, (value,) in file_rows(path, [label_column]))
            return LabelForm(isinstance(next((value for value in values if value is not None), None), list))
    return ONE_LABEL


def load_file(
    path: str, text_columns: Sequence[str], label_column: str | None, form: LabelForm = ONE_LABEL
) -> datasets.Dataset:
    """Read an own CSV, TSV, JSONL or Parquet file; the table's fingerprint is that of its content, for the token cache.

    The text columns and the label column (None where labels do not matter) must be there, and become string columns
    (labels of several a row: lists of strings); a text file has `LINE_COLUMN`, too. A file without rows, a malformed
    line or a value that is not a text is refused.
    """
    import datasets

    wanted = [*text_columns] if label_column is None else [*text_columns, label_column]
    features: dict[str, Any] = {name: datasets.Value("string") for name in wanted}
    if label_column is not None and form.several:
        features[label_column] = datasets.List(datasets.Value("string"))
    if has_lines(path):
        features[LINE_COLUMN] = datasets.Value("int64")
    state = file_state(path)
    rows = _typed_rows(path, text_columns, label_column, state, form)
    if is_large(path):
        key = _fingerprint(path, text_columns, label_column, form)
        table = _mapped(rows, datasets.Features(features), cache_folder() / f"rows-{key}.arrow")
    else:
        columns: dict[str, list[object]] = {name: [] for name in features}
        for row in rows:
            for name, value in row.items():
                columns[name].append(value)
        key = _fingerprint(path, text_columns, label_column, form)
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    state.check(path)  # the rows are those of the key, by which token ids are kept
    return datasets.Dataset(table.data, fingerprint=key)


def own_label_names(
    labels: Sequence[str] | None,
    regression: bool,
    train_file: str | None,
    label_column: str,
    ranked: bool,
    form: LabelForm = ONE_LABEL,
) -> list[str]:
    """Return the class names of own files: those given, or those that the training file uses.

    Where answers are `ranked` the order says which label marks the right ones, so that words have to be given.
    """
    if regression:
        if labels is not None:
            raise UserError("labels and regression were both given; a regression has no classes, give one of them")
        return ["score"]
    if labels is not None:
        return check_names(labels)
    if train_file is None:
        raise UserError(f"no data: give task ({', '.join(TASKS)}) or train_file; without a train_file, give labels")
    where = f"column {label_column!r} of {train_file}"
    rows = _typed_rows(train_file, (), label_column, form=form)
    if form.several:
        sets: Iterator[Any] = (row[label_column] for row in rows)
        return infer_set_names((name for names in sets for name in names or ()), where)
    names = infer_label_names(list(dict.fromkeys(row[label_column] for row in rows)), where)
    if ranked and len(names) == 2 and not all(map(is_number, names)):
        raise UserError(
            f"{where} holds {names[0]!r} and {names[1]!r}: the second of the labels marks right answers; give "
            f"{option(names)}, or the other way round"
        )
    return names


def as_text(value: object, column: str, path: str, number: int, *, is_label: bool = False) -> str | None:
    """Return a cell as a text, numbers written out and labels in their one spelling; refuse others, such as a list."""
    if value is None:
        return None
    is_value = isinstance(value, int | float) and math.isfinite(value) and (is_label or not isinstance(value, bool))
    if is_value or (isinstance(value, str) and _encodable(value)):
        return label_text(value) if is_label else str(value)
    kinds = {list: "a list", dict: "an object", bool: "a truth value", bytes: "bytes", str: "half a character"}
    found = repr(value) if isinstance(value, float) else kinds.get(type(value), f"a {type(value).__name__}")
    wanted = "a text; write one there, or name another column"
    if is_label:
        wanted = "a label; write a name or a number there"
        if isinstance(value, list):
            wanted = "a label; write one name or number (lists are read where the first label of a file is one)"
        elif isinstance(value, float):
            wanted = "a label; write a name or a number, or null where there is none"
    raise UserError(f"{describe_place(path, number)}: column {column!r} holds {found}, not {wanted}")


def _typed_rows(
    path: str,
    text_columns: Sequence[str],
    label_column: str | None,
    state: FileState | None = None,
    form: LabelForm = ONE_LABEL,
) -> Iterator[dict[str, object]]:
    """Yield the rows of `load_file`."""
    wanted = [*text_columns] if label_column is None else [*text_columns, label_column]
    in_lines = has_lines(path)
    for number, values in file_rows(path, wanted, state):
        row: dict[str, object] = {
            name: as_text(value, name, path, number) for name, value in zip(text_columns, values, strict=False)
        }
        if label_column is not None and form.several:
            row[label_column] = form.names_of(values[-1], label_column, path, number)
        elif label_column is not None:
            row[label_column] = as_text(values[-1], label_column, path, number, is_label=True)
        if in_lines:
            row[LINE_COLUMN] = number
        yield row


def _fingerprint(path: str, text_columns: Sequence[str], label_column: str | None, form: LabelForm) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    # The same bytes are other rows under another ending; a label is read in another way than a text.
    several = (form.separator,) if form.several and label_column is not None else ()
    digest.update(repr((Path(path).suffix.lower(), list(text_columns), label_column, *several)).encode())
    return digest.hexdigest()[:32]


def _mapped(rows: Iterator[dict[str, object]], features: datasets.Features, target: Path) -> datasets.Dataset:
    """Return rows as a table mapped from an Arrow file, which is written where there is none."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    if not target.exists():
        with atomic_path(target) as unfinished, ArrowWriter(path=str(unfinished), features=features) as writer:
            for row in rows:
                writer.write(row)
            writer.finalize()
    return datasets.Dataset.from_file(str(target))


def _encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON can hold one half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
