"""The frame that all pages of mebert share: one file, no network, light and dark, readable on a phone."""

from mebert.report.page.colours import PALETTE, Style, styles
from mebert.report.page.parts import Cell, Figure, Grid, Html, Note, Part, Section, Table, plain
from mebert.report.page.write import render_page, write_page

__all__ = [
    "PALETTE",
    "Cell",
    "Figure",
    "Grid",
    "Html",
    "Note",
    "Part",
    "Section",
    "Style",
    "Table",
    "plain",
    "render_page",
    "styles",
    "write_page",
]
