"""The parts of a page. All text is escaped, except that of `Html`."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """A cell of a table with more than a text or a number."""

    text: str
    sort: float | None = None  # the value that it is sorted by; None for the text
    colour: str = ""  # of a square before the text (`#rrggbb`)
    title: str = ""  # shown under the pointer
    look: str = ""  # `dim`, `strong`, `code` or nothing


@dataclass(frozen=True)
class Table:
    """A table that is sorted by a click, or Enter, on a header, and scrolls in its own box if it is too wide.

    Floats are shown with `digits` decimals and sorted by their full value; None and NaN are a dash, and sorted last.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | float | Cell | None]]
    caption: str = ""  # shown below; also its name for a screen reader
    digits: int = 4
    sortable: bool = True

    def cells(self) -> list[list[Cell]]:
        """All rows as cells."""
        return [[self._cell(value) for value in row] for row in self.rows]

    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, which are aligned right: (columns,)."""
        columns = zip(*self.cells(), strict=True) if self.rows else ([] for _ in self.header)
        return [any(c.sort is not None for c in column) and all(_is_number(c) for c in column) for column in columns]

    def _cell(self, value: str | float | Cell | None) -> Cell:
        if isinstance(value, Cell):
            return value
        if isinstance(value, str):
            return Cell(value)
        if value is None or math.isnan(value):
            return Cell("-")
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.{self.digits}f}"
        return Cell(shown, sort=float(value))


def _is_number(cell: Cell) -> bool:
    return cell.sort is not None or cell.text in ("", "-")


@dataclass(frozen=True)
class Figure:
    """A plotly chart, as wide as its container.

    Colours of the text, the axes and the grid follow the page; those of traces stay. The legend is on the right, or
    below a narrow chart. The figure's template and background are replaced.
    """

    figure: Any  # a `plotly.graph_objects.Figure`; users' text must be escaped by `plain`
    caption: str = ""  # how to read it
    label: str = ""  # its name for a screen reader; empty for the caption


@dataclass(frozen=True)
class Note:
    """A paragraph, and a command to copy below it."""

    text: str
    code: str = ""


@dataclass(frozen=True)
class Html:
    """HTML, such as coloured spans: `Markup("<b>{}</b>").format(text)`, which escapes; a plain text is escaped."""

    html: Markup | str
    caption: str = ""


@dataclass(frozen=True)
class Grid:
    """Parts side by side, as many as fit."""

    parts: Sequence[Part]
    width: int = 300  # minimum of each in pixels


@dataclass(frozen=True)
class Section:
    """A heading, a lead sentence and parts below it, then sections with smaller headings."""

    title: str
    parts: Sequence[Part] = ()
    lead: str = ""
    sections: Sequence[Section] = field(default=())


Part = Table | Figure | Note | Html | Grid


def plain(text: object) -> str:
    """A user's text for a plotly chart, with tags and templates of plotly's escaped.

    >>> plain("<b>%{x}</b>")
    '&lt;b&gt;&#37;{x}&lt;/b&gt;'
    """
    return html.escape(str(text), quote=False).replace("%{", "&#37;{")
