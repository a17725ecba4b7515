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
    """A cell of a table with more than a text or a number.

    Attributes:
        text: The text.
        sort: The value that it is sorted by; None for the text.
        colour: A square of this colour before the text (`#rrggbb`).
        title: Shown under the pointer.
        look: `dim`, `strong`, `code` or nothing.
    """

    text: str
    sort: float | None = None
    colour: str = ""
    title: str = ""
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table that is sorted by a click, or Enter, on a header, and scrolls in its own box if it is too wide.

    Attributes:
        header: One text for each column.
        rows: Floats are shown with `digits` decimals and sorted by their full value; None and NaN are a dash, and
            sorted last.
        caption: Shown below; also its name for a screen reader.
        digits: Of floats.
        sortable: Whether headers sort.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | float | Cell | None]]
    caption: str = ""
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
    below a narrow chart.

    Attributes:
        figure: A `plotly.graph_objects.Figure`; its template and background are replaced. Users' text must be escaped
            by `plain`.
        caption: How to read it.
        label: Its name for a screen reader; empty for the caption.
    """

    figure: Any
    caption: str = ""
    label: str = ""


@dataclass(frozen=True)
class Note:
    """A paragraph.

    Attributes:
        text: The text.
        code: A command to copy, shown below.
    """

    text: str
    code: str = ""


@dataclass(frozen=True)
class Html:
    """HTML, such as coloured spans. Build it with `Markup("<b>{}</b>").format(text)`, which escapes.

    Attributes:
        html: A `markupsafe.Markup`; a plain text is escaped.
        caption: Shown below.
    """

    html: Markup | str
    caption: str = ""


@dataclass(frozen=True)
class Grid:
    """Parts side by side, as many as fit.

    Attributes:
        parts: From left to right.
        width: Minimum width of each in pixels.
    """

    parts: Sequence[Part]
    width: int = 300


@dataclass(frozen=True)
class Section:
    """A heading with parts below it, then sections with smaller headings.

    Attributes:
        title: The heading.
        parts: From top to bottom.
        lead: A sentence below the heading.
        sections: After the parts.
    """

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
