"""The texts of the command, one after another: a file's rows, lines of standard input, or words."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mebert.commands.predict.command import PredictSettings
from mebert.data.file_rows import column_names, decoded_lines, file_rows, text_lines
from mebert.data.files import as_text
from mebert.data.found_columns import PAIRS, TEXTS
from mebert.errors import UserError

Cells = Sequence[Any]


class Texts:
    """The texts, once and in one pass, and what belongs to those that were read and not yet answered.

    Args:
        rows: The cells of each text, in the order of `columns`.
        columns: The columns of the answer: carried ones, then the texts.
        texts: Which columns are the one or two texts.
        label: The column of the label, which is not part of the answer; None for none.
    """

    def __init__(
        self, rows: Iterable[Cells], columns: Sequence[str], texts: Sequence[str], label: str | None = None
    ) -> None:
        self.columns, self.label = list(columns), label
        self._rows = rows
        self._places = [self.columns.index(name) for name in texts]
        self._waiting: deque[Cells] = deque()

    def __iter__(self) -> Iterator[str | tuple[str, str]]:
        for cells in self._rows:
            self._waiting.append(cells)
            texts = [cells[place] or "" for place in self._places]
            yield texts[0] if len(texts) == 1 else (texts[0], texts[1])

    def next_cells(self) -> Cells:
        """The cells of the first text that is not yet answered; behind them its label, if there is a column of it."""
        return self._waiting.popleft()


def open_texts(settings: PredictSettings, trained: Any, num_texts: int | None) -> Texts:
    """The texts that the settings name; nothing is read yet but a file's header.

    Args:
        settings: Of the command.
        trained: The rows of the training, whose columns are those of the file unless others are given; None: not known.
        num_texts: Texts that the model reads at a time, 1 or 2 (pairs); None: not known.
    """
    file = settings.file
    if settings.text:
        return Texts(([text] for text in settings.text), ["text"], ["text"])
    if settings.pair:
        pairs = zip(settings.pair[::2], settings.pair[1::2], strict=True)
        return Texts(pairs, ["text", "text_pair"], ["text", "text_pair"])
    assert file is not None
    if file == "-" or file.lower().endswith(".txt"):
        name = "standard input" if file == "-" else file
        lines = decoded_lines(name, sys.stdin.buffer) if file == "-" else text_lines(file)
        names = ["text", "text_pair"] if num_texts == 2 else ["text"]
        return Texts(_cells_of_lines(name, lines, len(names)), names, names)
    there = column_names(file)
    texts = _text_columns(settings, there, getattr(trained, "text_columns", ()), num_texts)
    columns = list(dict.fromkeys([*settings.id_columns, *texts]))
    label = settings.label_column
    if label is None and (usual := getattr(trained, "label_column", "label")) in there and usual not in texts:
        label = usual
    return Texts(_cells_of_file(file, columns, texts, label), columns, texts, label)


def _cells_of_lines(name: str, lines: Iterable[str], number: int) -> Iterator[Cells]:
    for place, line in enumerate(lines, start=1):
        cells = line.rstrip("\r\n").split("\t", number - 1)
        if len(cells) < number:
            raise UserError(f"{name}, line {place}: the model reads pairs of texts; put a tab between the two")
        yield cells


def _cells_of_file(path: str, columns: Sequence[str], texts: Sequence[str], label: str | None) -> Iterator[Cells]:
    wanted = [*columns, *([] if label is None else [label])]
    checked = [name in texts or place == len(columns) for place, name in enumerate(wanted)]  # others are carried as is
    for number, values in file_rows(path, wanted):
        yield [
            as_text(value, name, path, number, is_label=place == len(columns)) if checked[place] else value
            for place, (name, value) in enumerate(zip(wanted, values, strict=True))
        ]


def _text_columns(
    settings: PredictSettings, there: Sequence[str], trained: Sequence[str], num_texts: int | None
) -> list[str]:
    """The one or two columns of texts: those given, else those of the training, else those with a usual name."""
    first, second = settings.text_column, settings.text_pair_column
    if first is None and second is None:
        if trained and all(name in there for name in trained):
            return list(trained)
        if num_texts == 2 and (pair := next((two for two in PAIRS if all(name in there for name in two)), None)):
            return list(pair)
    wanted = len(trained) or num_texts or 1
    if first is None:
        usual = [name for name in dict.fromkeys((*trained[:1], *TEXTS)) if name in there]
        first = there[0] if len(there) == 1 else next(iter(usual), None)
    if second is None and wanted == 2:
        second = next((name for name in trained[1:] if name in there), None)
    if first is None or (second is None and wanted == 2):
        missing = "text_column" if first is None else "text_pair_column"
        raise UserError(
            f"{settings.file}: which column holds the {'texts' if first is None else 'second texts'}? "
            f"Give --{missing}, one of {', '.join(there)}"
        )
    return [name for name in (first, second) if name is not None]
