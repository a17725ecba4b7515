"""One look for all tables: numbers to the right, no cell cut off, columns that do not fit in a table below."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from typing_extensions import override

from mebert.errors import escape_control_chars

__all__ = ["console", "markdown_table", "print_pairs", "print_table", "report_table"]

WIDTH_WITHOUT_TERMINAL = 140
TEXT_WIDTH = 110
INDENT = 2
SHORT_TITLE = 8


class PlainConsole(Console):
    """One for which texts are only texts: labels and file names set no style, and give the terminal no commands."""

    @override
    def print(self, *objects: Any, **settings: Any) -> None:
        super().print(*(_harmless(thing) for thing in objects), **settings)


def _harmless(thing: Any) -> Any:
    if isinstance(thing, Text) and thing.plain != escape_control_chars(thing.plain):
        return Text(escape_control_chars(thing.plain), thing.style)  # styles of its parts go with what was hidden there
    return escape_control_chars(thing) if isinstance(thing, str) else thing


def console(file: IO[str] | None = None) -> Console:
    """Standard output or a file; wide enough for every table where it is no terminal and COLUMNS is not set."""
    file = file or sys.stdout
    known = file.isatty() or os.environ.get("COLUMNS", "").isdigit()
    width = None if known else WIDTH_WITHOUT_TERMINAL
    # Not as HTML in a notebook: there each line would become an output of its own, out of turn with what is printed.
    return PlainConsole(
        file=file, width=width, highlight=False, soft_wrap=False, force_jupyter=False, markup=False, emoji=False
    )


def report_table(title: str, left: Iterable[str] = (), right: Iterable[str] = (), caption: str | None = None) -> Table:
    """An empty table in mebert's look.

    Args:
        title: Stands above it.
        left: Columns of text.
        right: Columns of numbers, after them.
        caption: Stands below it.
    """
    table = Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="dim",
    )
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def print_table(table: Table, out: Console | None = None, keys: int = 1) -> None:
    """Print a table so that it can be read at any width: nothing is cut, and no cell is folded.

    Where it is too wide, spaces go first; then the columns that do not fit come in a further table below, which begins
    with the key columns again.

    Args:
        table: From `report_table`, with its rows; cells are plain text, or rich's `Text`.
        out: Where to; None for standard output.
        keys: Columns at the left that say what a row is.
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
    """A small two-column table; long values (paths, commands) are never cut, so that they can be copied."""
    items = list(pairs.items()) if isinstance(pairs, Mapping) else list(pairs)
    width = max(len(name) for name, _ in items)
    out = console()
    out.print(title, style="bold", markup=False)
    for name, value in items:
        out.print(f"  {name:<{width}}  {value}", markup=False, soft_wrap=True)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(markdown_table(["exit", "acc"], [["1", "0.9"]]))
    | exit | acc |
    | --- | --- |
    | 1 | 0.9 |
    """
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *rows])


def _parts(table: Table, width: int, keys: int) -> Iterator[tuple[int, list[Column]]]:
    """What is printed in turn: the gap between columns, and the columns."""
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
    """Of its widest cell; a long title may be folded between words."""
    cells = [_text(cell).cell_len for cell in column.cells]
    title = str(column.header)
    words = [cell_len(word) for word in (title.split() if len(title) > SHORT_TITLE else [title])]
    return max([*cells, *words, 1])


def _text(cell: object) -> Text:
    return _harmless(cell.copy()) if isinstance(cell, Text) else Text(escape_control_chars(str(cell)))


def _lines(table: Table, columns: Sequence[Column], gap: int) -> Iterator[Text]:
    widths = [_column_width(column) for column in columns]
    titles = [_folded(str(column.header), width) for column, width in zip(columns, widths, strict=True)]
    height = max(map(len, titles))
    for number in range(height):
        words = [Text(lines[number - height] if number >= height - len(lines) else "", "bold") for lines in titles]
        yield _row(words, columns, widths, gap)
    yield Text(" " * INDENT + "─" * _width(columns, gap))
    cells = [list(column.cells) for column in columns]
    for number, row in enumerate(table.rows):
        yield _row([_text(column[number]) for column in cells], columns, widths, gap)
        if row.end_section and number < len(table.rows) - 1:
            yield Text("")


def _folded(title: str, width: int) -> list[str]:
    """A column's title in lines no wider than the column."""
    return textwrap.wrap(title, width, break_long_words=False, break_on_hyphens=False) or [""]


def _row(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int], gap: int) -> Text:
    line = Text(" " * INDENT)
    for place, (cell, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        if place:
            line.append(" " * gap)
        missing = " " * (width - cell.cell_len)
        line.append_text(Text(missing) + cell if column.justify == "right" else cell + Text(missing))
    line.rstrip()
    return line
