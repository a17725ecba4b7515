"""Tables for a terminal: numbers to the right, no cell cut off; columns that do not fit follow in a table below.

rich's own renderer folds or cuts cells of a table that is too wide, and cannot continue it below.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from typing_extensions import override

from mebert.errors import escape_control_chars
from mebert.storage.markdown import plain_markdown

WIDTH_WITHOUT_TERMINAL = 140
TEXT_WIDTH = 110
INDENT = 2
SHORT_TITLE = 8


class PlainConsole(Console):
    """A console that escapes control characters and ignores markup in what it prints."""

    @override
    def print(self, *objects: Any, **settings: Any) -> None:
        super().print(*(_escaped(thing) for thing in objects), **settings)


def _escaped(thing: Any) -> Any:
    if isinstance(thing, Text) and thing.plain != escape_control_chars(thing.plain):
        return Text(escape_control_chars(thing.plain), thing.style)  # without the styles of its parts
    return escape_control_chars(thing) if isinstance(thing, str) else thing


def console(file: IO[str] | None = None) -> Console:
    """Standard output or a file; 140 columns wide where it is not a terminal and COLUMNS is not set."""
    file = file or sys.stdout
    width = None if file.isatty() or os.environ.get("COLUMNS", "").isdigit() else WIDTH_WITHOUT_TERMINAL
    # Not as HTML in a notebook: there each line would become an output of its own, out of order with what is printed.
    return PlainConsole(
        file=file, width=width, highlight=False, soft_wrap=False, force_jupyter=False, markup=False, emoji=False
    )


def report_table(title: str, left: Iterable[str] = (), right: Iterable[str] = (), caption: str | None = None) -> Table:
    """An empty table for `print_table`."""
    columns = [*map(Column, left), *(Column(name, justify="right") for name in right)]
    return Table(*columns, title=title, caption=caption)


def print_table(table: Table, out: Console | None = None, keys: int = 1) -> None:
    """Print a table at any width without cutting or folding a cell.

    A table that is too wide gets smaller gaps first; then the columns that do not fit follow in a further table below,
    which repeats the first `keys` columns, those that identify a row.
    """
    out = out or console()
    if table.title:
        for line in textwrap.wrap(str(table.title), out.width):
            out.print(line, style="bold", markup=False)
    for number, (gap, columns) in enumerate(_parts(table, out.width - INDENT, keys)):
        if number:
            out.print()
        for row in _lines(table, columns, gap):
            out.print(row, soft_wrap=True)
    if table.caption:
        for paragraph in str(table.caption).split("\n"):
            for line in textwrap.wrap(paragraph, min(out.width, TEXT_WIDTH) - INDENT):
                out.print(" " * INDENT + line, style="dim", markup=False)
    out.print()


def print_pairs(title: str, pairs: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
    """Print a title and names with their values, which are never cut, so that paths and commands can be copied."""
    items = list(pairs.items()) if isinstance(pairs, Mapping) else list(pairs)
    width = max(len(name) for name, _ in items)
    out = console()
    out.print(title, style="bold", markup=False)
    for name, value in items:
        out.print(f"  {name:<{width}}  {value}", markup=False, soft_wrap=True)


def as_markdown(table: Table) -> str:
    """A table of `report_table` as a heading, a table and a paragraph in Markdown; texts of users stay plain text."""
    columns = [[_cell(column.header), *map(_cell, column.cells)] for column in table.columns]
    header, *rows = zip(*columns, strict=True)
    rule = ["---:" if column.justify == "right" else "---" for column in table.columns]
    lines = [f"| {' | '.join(line)} |" for line in (header, rule, *rows)]
    parts = [f"## {plain_markdown(str(table.title))}", "\n".join(lines)]
    if table.caption:
        parts += [plain_markdown(paragraph) for paragraph in str(table.caption).split("\n")]
    return "\n\n".join(parts)


def _cell(value: object) -> str:
    return plain_markdown(_text(value).plain.replace("\n", " "))


def _parts(table: Table, width: int, keys: int) -> Iterator[tuple[int, list[Column]]]:
    """Yield the tables below one another: the gap between columns, and the columns."""
    columns = table.columns
    gap = next((gap for gap in (3, 2, 1) if _width(columns, gap) <= width), 2)
    first, shown = columns[:keys], list[Column]()
    for column in columns[keys:]:
        if shown and _width([*first, *shown, column], gap) > width:
            yield gap, [*first, *shown]
            shown = []
        shown.append(column)
    yield gap, [*first, *shown]


def _width(columns: Sequence[Column], gap: int) -> int:
    return sum(map(_column_width, columns)) + gap * (len(columns) - 1)


def _column_width(column: Column) -> int:
    """The width of its widest cell; a long title may be folded between words."""
    cells = [_text(cell).cell_len for cell in column.cells]
    title = str(column.header)
    words = [cell_len(word) for word in (title.split() if len(title) > SHORT_TITLE else [title])]
    return max([*cells, *words, 1])


def _text(cell: object) -> Text:
    return _escaped(cell.copy()) if isinstance(cell, Text) else Text(escape_control_chars(str(cell)))


def _lines(table: Table, columns: Sequence[Column], gap: int) -> Iterator[Text]:
    widths = [_column_width(column) for column in columns]

    def row(cells: Sequence[Text]) -> Text:
        parts = []
        for cell, column, width in zip(cells, columns, widths, strict=True):
            missing = Text(" " * (width - cell.cell_len))
            parts.append(missing + cell if column.justify == "right" else cell + missing)
        line = Text(" " * INDENT) + Text(" " * gap).join(parts)
        line.rstrip()
        return line

    titles = [
        textwrap.wrap(str(column.header), width, break_long_words=False, break_on_hyphens=False) or [""]
        for column, width in zip(columns, widths, strict=True)
    ]
    height = max(map(len, titles))
    for number in range(height):
        yield row([Text(lines[number - height] if number >= height - len(lines) else "", "bold") for lines in titles])
    yield Text(" " * INDENT + "─" * _width(columns, gap))
    cells = [list(column.cells) for column in columns]
    for number, line in enumerate(table.rows):
        yield row([_text(column[number]) for column in cells])
        if line.end_section and number < len(table.rows) - 1:
            yield Text("")
