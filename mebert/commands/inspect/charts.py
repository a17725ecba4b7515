"""What each exit sees as a section of a page: one chart an exit, whose pointer shows every row's text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from mebert.commands.inspect.picture import space_title
from mebert.commands.inspect.report import Inspection
from mebert.commands.inspect.spaces import ExitSpace
from mebert.commands.inspect.styles import GLYPHS, STAR, class_styles
from mebert.commands.inspect.tables import estimate, separation_columns
from mebert.commands.inspect.trace import shown_text
from mebert.report.page import Cell, Figure, Grid, Html, Section, Table, plain

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["space_section"]

HOVER_WIDTH, HOVER_LENGTH = 60, 180


def space_section(found: Inspection) -> Section:
    """The section: a legend, a chart for each exit, a table of how well each keeps the classes apart.

    Args:
        found: With spaces.
    """
    rows = "the inspected texts alone" if found.samples is None else found.samples.what
    lead = (
        f"Shown: {rows}, in the plane in which they spread most (principal components). What is projected is what "
        "the prototypical network of an exit makes of a text, where it has one, else what the exit pools."
    )
    charts = [
        Figure(
            _chart(found, space),
            caption=space_title(space).replace("\n", "; "),
            label=f"Exit {space.exit} in two dimensions",
        )
        for space in found.spaces
    ]
    header, cells = separation_columns(found)
    shown = [[_aligned(text) for text in row] for row in cells]
    table = Table(header, shown, caption="How well each exit keeps the classes apart, in all dimensions")
    return Section("What each exit sees", [Html(_legend(found)), Grid(charts, width=340), table], lead=lead)


def _aligned(text: str) -> Cell:
    """A text as a cell; a number, or a share in per cent, stands on the right."""
    number = text.removesuffix("%").replace(".", "", 1)
    return Cell(text, sort=float(text.removesuffix("%"))) if number.isdecimal() else Cell(text)


def _legend(found: Inspection) -> Markup:
    from markupsafe import Markup

    entry = Markup('<span style="white-space: nowrap; margin-right: 1.2em">{} {}</span>')
    glyph = Markup('<span style="color: {}; {}">{}</span>')
    entries = []
    if found.samples is not None and found.regression:
        entries.append(entry.format(glyph.format("var(--ink)", "", "●"), f"sample, coloured by {found.label_names[0]}"))
    elif found.samples is not None or any(space.mark_labels for space in found.spaces):
        for name, look in zip(found.label_names, class_styles(found.label_names), strict=True):
            entries.append(entry.format(glyph.format(look.colour, "", GLYPHS[look.symbol]), name))
    if found.mark_kinds:
        entries.append(entry.format(glyph.format("var(--ink)", "font-size: 1.3em", "✖"), found.mark_kinds))
    if found.traces:
        star = glyph.format(STAR, "-webkit-text-stroke: 1px var(--ink); font-size: 1.2em", "★")
        entries.append(entry.format(star, "inspected text, by its number"))
    return Markup('<p style="max-width: none">{}</p>').format(Markup(" ").join(entries))


def _chart(found: Inspection, space: ExitSpace) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure(layout={"height": 340, "showlegend": False, "margin": {"t": 10, "b": 50, "l": 55, "r": 10}})
    for axis, title in zip(("xaxis", "yaxis"), space.axis_titles, strict=True):
        # Margins that follow the labels and axes that are to scale would take turns for ever.
        figure.layout[axis].update({"title": {"text": title, "font": {"size": 12}}, "automargin": False})
    if not space.stretched:
        figure.update_yaxes(scaleanchor="x")  # a distance is one in every direction
    _add_samples(figure, found, space)
    _add_marks(figure, found, space)
    stars = [
        _hover(f"{number}. {shown_text(trace.text, HOVER_LENGTH)}") for number, trace in enumerate(found.traces, 1)
    ]
    said = [
        f"exit {space.exit} says {plain(estimate(trace.steps[space.exit - 1].answer))}; leaves at exit {trace.exit}"
        for trace in found.traces
    ]
    figure.add_scatter(
        x=space.texts[:, 0].tolist(),
        y=space.texts[:, 1].tolist(),
        mode="markers+text",
        text=[str(number) for number in range(1, len(stars) + 1)],
        textposition="middle center",
        hovertext=[f"{star}<br>{words}" for star, words in zip(stars, said, strict=True)],
        hoverinfo="text",
        marker={"symbol": "star", "size": 23, "color": STAR, "line": {"color": "#000000", "width": 1}},
        textfont={"size": 11, "weight": "bold", "color": "#000000"},
    )
    return figure


def _add_samples(figure: Any, found: Inspection, space: ExitSpace) -> None:
    samples = found.samples
    if samples is None:
        return
    texts = samples.texts or [""] * len(samples)
    answers, exits = samples.walk.answers[space.exit - 1].tolist(), (samples.walk.exits + 1).tolist()
    gold = samples.labels.tolist()

    def said(value: float) -> str:
        return estimate(value) if found.regression else found.label_names[int(value)]

    hover = [
        f"{_hover(shown_text(text, HOVER_LENGTH))}<br>label {plain(said(label))}; exit {space.exit} says "
        f"{plain(said(answer))}; leaves at exit {taken}"
        for text, label, answer, taken in zip(texts, gold, answers, exits, strict=True)
    ]
    looks = class_styles(found.label_names)
    groups = [list(range(len(gold)))]
    if not found.regression:
        groups = [[row for row, label in enumerate(gold) if label == number] for number in range(len(looks))]
    for look, rows in zip(looks, groups, strict=True):
        marker: dict[str, Any] = {"size": 6, "opacity": 0.65, "symbol": look.symbol, "color": look.colour}
        if found.regression:
            bar = {"title": {"text": plain(found.label_names[0])}, "thickness": 10}
            values = [round(value, 4) for value in gold]
            marker |= {"color": values, "colorscale": "Cividis", "showscale": True, "colorbar": bar}
        figure.add_scatter(
            x=[round(value, 5) for value in space.points[rows, 0].tolist()],
            y=[round(value, 5) for value in space.points[rows, 1].tolist()],
            mode="markers",
            hovertext=[hover[row] for row in rows],
            hoverinfo="text",
            marker=marker,
        )


def _add_marks(figure: Any, found: Inspection, space: ExitSpace) -> None:
    looks = class_styles(found.label_names)
    one = space.mark_kind.removesuffix("s")
    places = {"x": space.marks[:, 0].tolist(), "y": space.marks[:, 1].tolist(), "mode": "markers"}
    # A white cross with a black edge below the coloured one: seen on white, on black, and on points of its colour.
    edge = {"symbol": "x", "size": 20, "color": "#ffffff", "line": {"color": "#000000", "width": 1}}
    figure.add_scatter(**places, hoverinfo="skip", marker=edge)
    figure.add_scatter(
        **places,
        hovertext=[f"{one} of {plain(found.label_names[label])}" for label in space.mark_labels],
        hoverinfo="text",
        marker={"symbol": "x", "size": 14, "color": [looks[label].colour for label in space.mark_labels]},
    )


def _hover(text: str) -> str:
    """A text in lines, for a chart's hover."""
    return "<br>".join(plain(line) for line in textwrap.wrap(text, HOVER_WIDTH))
