"""Which columns of a file hold the texts and the label, where the user names none: by their names, else by content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path

from mebert.data.file_rows import ENDINGS, column_names, file_rows
from mebert.data.files import ONE_LABEL, LabelForm
from mebert.data.label_names import is_missing, label_text
from mebert.data.row_formats import no_column
from mebert.errors import UserError
from mebert.storage.spec_parts import TrainedColumns

PAIRS = (
    *(("premise", "hypothesis"), ("sentence1", "sentence2"), ("text1", "text2"), ("text_a", "text_b")),
    *(("question1", "question2"), ("question", "answer"), ("question", "sentence"), ("query", "document")),
)
TEXTS = ("text", "sentence", "review", "content", "comment", "message", "body", "description")
LABELS = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "rating", "stars")
LOOKED_AT = 1000  # rows
MOST_CLASSES = 100
WORDS = 3  # a column whose cells have so many on average holds texts


@dataclass(frozen=True)
class Columns:
    """The columns of a file of labelled texts; `pair` is that of second texts, or None."""

    text: str
    pair: str | None
    label: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The one or two columns of texts."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


def find_columns(path: str, text: str | None = None, pair: str | None = None, label: str | None = None) -> Columns:
    """The columns of a CSV, TSV, JSONL or Parquet file; those given are taken as they are.

    A usual name decides (`text`, `review`, ...; `label`, `category`, ...; of pairs `premise` and `hypothesis`, ...),
    else the content of the first 1,000 rows, where only one column can be meant: texts have several words, and a label
    has few different values.

    Raises:
        UserError: No column or several may be meant; it names the option that says which.
    """
    names = column_names(path)
    given = {"text_column": text, "text_pair_column": pair, "label_column": label}
    for option, name in given.items():
        if name is not None and name not in names:
            likely = None
            with suppress(UserError):
                others = find_columns(path, *(other if other in names else None for other in given.values()))
                likely = dict(zip(given, astuple(others), strict=True))[option]
            raise no_column(path, name, names, option, likely)
    by_name = {name.strip().lower(): name for name in reversed(names)}
    if text is None and pair is None:
        found = next((two for two in PAIRS if all(name in by_name for name in two)), None)
        if found is not None:
            text, pair = (by_name[name] for name in found)
    if label is None:
        label = _named(by_name, LABELS, (text, pair))
    if text is None:
        text = _named(by_name, TEXTS, (pair, label))
    if text is None or label is None:
        rest = [name for name in names if name not in (text, pair, label)]
        cells = _cells(path, rest)
        wordy = [name for name in rest if _words(cells[name]) >= WORDS]
        if label is None:
            label = _only(path, "label", [n for n in rest if n not in wordy and _may_be_label(cells[n])], names)
        if text is None:
            text = _only(path, "text", wordy or [name for name in rest if name != label], names)
    return Columns(text, pair, label)


def find_as_trained(
    path: str,
    trained: TrainedColumns | None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
) -> Columns:
    """The columns of a file for a trained model: those given, else those of its training, else as `find_columns`."""
    if trained is not None:
        first, *second = trained.text_columns
        own = [second[0] if second and text is None else None, trained.label_column]
        with suppress(UserError):
            return find_columns(path, text or first, pair or own[0], label or own[1])
    return find_columns(path, text, pair, label)


def find_texts(
    path: str, trained: Sequence[str], num_texts: int | None, text: str | None = None, pair: str | None = None
) -> list[str]:
    """The one or two columns of texts of a file without labels: those given, else of the training, else by their names.

    Args:
        path: CSV, TSV, JSONL or Parquet.
        trained: The columns of the training; empty: not known.
        num_texts: Texts that the model reads at a time, 1 or 2; None: not known.
        text: Column of the (first) texts.
        pair: Column of the second texts.

    Raises:
        UserError: A column is not there, or several may be meant; it names the option that says which.
    """
    there = column_names(path)
    for option, name in {"text_column": text, "text_pair_column": pair}.items():
        if name is not None and name not in there:
            likely = None
            if option == "text_column":
                with suppress(UserError):
                    likely = find_texts(path, trained, num_texts, pair=pair)[0]
            raise no_column(path, name, there, option, likely)
    if text is None and pair is None:
        if trained and all(name in there for name in trained):
            return list(trained)
        if num_texts == 2 and (usual := next((two for two in PAIRS if all(name in there for name in two)), None)):
            return list(usual)
    wanted = len(trained) or num_texts or 1
    if text is None:
        named = [name for name in dict.fromkeys((*trained[:1], *TEXTS)) if name in there]
        text = there[0] if len(there) == 1 else next(iter(named), None)
    if pair is None and wanted == 2:
        pair = next((name for name in trained[1:] if name in there), None)
    if text is None or (pair is None and wanted == 2):
        missing = "text_column" if text is None else "text_pair_column"
        others = [name for name in there if name not in (text, pair)]
        if not others:
            raise UserError(
                f"{path} has the column {there[0]!r} alone, and the model reads pairs of texts: add a column "
                "with the second ones"
            )
        raise UserError(
            f"{path}: which column holds the {'texts' if text is None else 'second texts'}? "
            f"Give --{missing}, one of {', '.join(others)}"
        )
    return [name for name in (text, pair) if name is not None]


def read_columns(
    path: str, columns: Columns, most: int, form: LabelForm = ONE_LABEL
) -> tuple[int, int, list[Sequence[object]]]:
    """The number of rows with a label and of different labels, and the texts of at most 2 `most` of them, evenly."""
    count, labels, kept, step = 0, set[str](), list[Sequence[object]](), 1
    for _, values in file_rows(path, [*columns.texts, columns.label]):
        found = form.parts(values[-1]) if form.several else None if is_missing(values[-1]) else [values[-1]]
        if found is None:
            continue
        if count % step == 0:
            kept.append(values[:-1])
        if len(kept) > 2 * most:
            kept, step = kept[::2], 2 * step
        labels.update(map(label_text, found))
        count += 1
    return count, len(labels), kept


def check_own_file(path: str) -> None:
    """Refuse what is no file of rows, saying how it is given instead."""
    if Path(path).is_dir():
        raise UserError(
            f"fit {path}: a folder; give a file of labelled texts ({', '.join(ENDINGS)}), or to go on with a run: "
            f"fit --config {Path(path) / 'config.yaml'} --ckpt_path last"
        )
    if Path(path).suffix.lower() in (".yaml", ".yml"):
        raise UserError(f"fit {path}: give a configuration by --config {path}")


def _named(by_name: dict[str, str], usual: Sequence[str], taken: Sequence[str | None]) -> str | None:
    return next((by_name[name] for name in usual if name in by_name and by_name[name] not in taken), None)


def _cells(path: str, names: list[str]) -> dict[str, list[str]]:
    rows = [values for _, values in islice(file_rows(path, names), LOOKED_AT)] if names else []
    return {name: list(_texts(values[place] for values in rows)) for place, name in enumerate(names)}


def _texts(values: Iterator[object]) -> Iterator[str]:
    for value in values:
        if not is_missing(value):
            yield value if isinstance(value, str) else json.dumps(value, default=str)


def _words(cells: Sequence[str]) -> float:
    return sum(len(text.split()) for text in cells) / max(len(cells), 1)


def _may_be_label(cells: Sequence[str]) -> bool:
    return 2 <= len(set(cells)) <= max(2, min(MOST_CLASSES, len(cells) // 10))


def _only(path: str, what: str, found: list[str], names: list[str]) -> str:
    if len(found) == 1:
        return found[0]
    which = f" ({' or '.join(map(repr, found[:4]))}?)" if found else ""
    raise UserError(
        f"{path}: which column is the {what}{which}? Its columns are {', '.join(names)}; name it by --{what}_column"
    )
