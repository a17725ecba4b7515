"""What a page is made of. All text is escaped; only `Html` is taken as it is."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["Cell", "Figure", "Grid", "Html", "Note", "Part", "Section", "Table", "plain"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than a text or a number.

    Attributes:
        text: What it shows.
        sort: What it is sorted by, where that is not the text.
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
    """A table that is sorted by a click, or Enter, on a header; it scrolls in a box of its own where it is too wide.

    Attributes:
        header: One text a column.
        rows: Numbers are shown with `digits` digits behind the point and sorted by their full value; None and NaN
            are a dash, and sorted last.
        caption: What the table is; also its name for a screen reader.
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
        """Of each column, whether it holds numbers, and so stands on the right: (columns,)."""
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
    """A plotly chart, as wide as its place.

    Colours of the text, the axes and the grid follow the page; those of traces stay. The legend stands on the right,
    and below the chart where that is narrow.

    Attributes:
        figure: A `plotly.graph_objects.Figure`; its `layout.height` counts, its template and background do not. Text
            that is not ours must go through `plain`.
        caption: What one has to know to read it.
        label: What it shows, for a screen reader; the caption where it is empty.
    """

    figure: Any
    caption: str = ""
    label: str = ""


@dataclass(frozen=True)
class Note:
    """A paragraph.

    Attributes:
        text: The words.
        code: A command to copy, shown below them.
    """

    text: str
    code: str = ""


@dataclass(frozen=True)
class Html:
    """HTML of our own, such as coloured spans. Build it with `Markup("<b>{}</b>").format(text)`, which escapes.

    Attributes:
        html: A `markupsafe.Markup`; a plain text is escaped.
        caption: What it is.
    """

    html: Markup | str
    caption: str = ""


@dataclass(frozen=True)
class Grid:
    """Small charts or other parts side by side, as many as fit.

    Attributes:
        parts: From left to right.
        width: Least width of each in pixels.
    """

    parts: Sequence[Part]
    width: int = 300


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; its own sections have smaller headings.

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
    """A text of somebody else's for a plotly chart: shown as it is, where plotly would read tags and templates in it.

    >>> plain("<b>%{x}</b>")
    '&lt;b&gt;&#37;{x}&lt;/b&gt;'
    """
    return html.escape(str(text), quote=False).replace("%{", "&#37;{")
