"""The texts of the command, one after another: a file's rows, lines of standard input, or words."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from mebert.commands.predict.command import PredictSettings
from mebert.data.file_rows import column_names, file_rows
from mebert.data.files import ONE_LABEL, LabelForm, as_text
from mebert.data.found_columns import find_texts
from mebert.data.row_formats import no_column
from mebert.data.text_lines import decoded_lines, text_lines
from mebert.errors import UserError
from mebert.runtime.messages import rank_zero_info

ROWS = 1000  # of the run's own that are read together
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


def open_texts(settings: PredictSettings, trained: Any, num_texts: int | None, form: LabelForm = ONE_LABEL) -> Texts:
    """The texts that the settings name; nothing is read yet but a file's header, or the rows of the run.

    Args:
        settings: Of the command.
        trained: The data of the training, whose columns are those of the file unless others are given; None: not known.
        num_texts: Texts that the model reads at a time, 1 or 2 (pairs); None: not known.
        form: How the file's labels are read.
    """
    file = settings.file
    if settings.own_rows:
        return _own_rows(settings, trained)
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
    usual_texts = getattr(trained, "text_columns", ())
    texts = find_texts(file, usual_texts, num_texts, settings.text_column, settings.text_pair_column)
    named = [("label_column", settings.label_column), *(("id_columns", name) for name in settings.id_columns)]
    for option, column in named:
        if column is not None and column not in there:
            raise no_column(file, column, there, option)
    columns = list(dict.fromkeys([*settings.id_columns, *texts]))
    label = settings.label_column
    if label is None and (usual := getattr(trained, "label_column", "label")) in there and usual not in texts:
        label = usual
    return Texts(_cells_of_file(file, columns, texts, label, form), columns, texts, label)


def _own_rows(settings: PredictSettings, data: Any) -> Texts:
    """The test rows of the run, or where those are not there its validation rows; a line says which."""
    instead = f"give a file: python -m mebert predict {settings.model} my.csv"
    if not hasattr(data, "texts"):
        raise UserError(f"{settings.model} was trained on data without texts; {instead}")
    what, why = "test", ""
    try:
        data.setup("test")
    except UserError as error:
        what, why = "validation", f" (no test rows: {error})"
        try:
            data.setup("validate")
        except UserError:
            raise UserError(f"{settings.model}: its own rows cannot be read ({error}); {instead}") from error
    names = list(data.validation_names if why else data.test_names)
    count = sum(len(data.split(name)) for name in names)
    rank_zero_info(f"the {count:,} {what} rows of {settings.model}{why}")
    columns = list(data.text_columns)
    return Texts(
        chain.from_iterable(_cells_of_split(data, name) for name in names), columns, columns, data.label_column
    )


def _cells_of_split(data: Any, split: str) -> Iterator[Cells]:
    labels, names = data.split(split).labels, data.label_names
    for start in range(0, len(labels), ROWS):
        known = labels[start : start + ROWS].tolist()
        texts = data.texts(split, range(start, start + len(known)))
        yield from zip(*texts.values(), (_label(names, value) for value in known), strict=True)


def _label(names: Sequence[str], value: Any) -> str | list[str]:
    """A row's label as a file has it: of a class number, a number, or 0 and 1 for each label."""
    if isinstance(value, list):
        return [name for name, has in zip(names, value, strict=True) if has]
    return str(value) if len(names) == 1 else names[value]


def _cells_of_lines(name: str, lines: Iterable[str], number: int) -> Iterator[Cells]:
    for place, line in enumerate(lines, start=1):
        cells = line.rstrip("\r\n").split("\t", number - 1)
        if len(cells) < number:
            raise UserError(f"{name}, line {place}: the model reads pairs of texts; put a tab between the two")
        yield cells


def _cells_of_file(
    path: str, columns: Sequence[str], texts: Sequence[str], label: str | None, form: LabelForm
) -> Iterator[Cells]:
    wanted = [*columns, *([] if label is None else [label])]
    checked = [name in texts or place == len(columns) for place, name in enumerate(wanted)]  # others are carried as is
    for number, values in file_rows(path, wanted):
        if label is not None and form.several:
            values = [*values[:-1], form.names_of(values[-1], label, path, number)]
            checked[-1] = False
        yield [
            as_text(value, name, path, number, is_label=place == len(columns)) if checked[place] else value
            for place, (name, value) in enumerate(zip(wanted, values, strict=True))
        ]
