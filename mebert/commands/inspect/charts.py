"""The exits' spaces as charts of a page: one for each exit; the pointer shows every row's text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from mebert.commands.inspect.inspection import GLYPHS, STAR, UNGROUPED, Inspection, label_of
from mebert.commands.inspect.samples import Samples
from mebert.commands.inspect.spaces import ExitSpace
from mebert.commands.inspect.tables import written
from mebert.commands.inspect.trace import Answer, shorten
from mebert.inference.stream import Text
from mebert.report.page import Figure, plain

if TYPE_CHECKING:
    from markupsafe import Markup

HOVER_WIDTH, HOVER_LENGTH = 60, 180


def space_legend(found: Inspection) -> Markup:
    """The legend of all charts, in one line."""
    from markupsafe import Markup

    entries = []
    if found.samples is not None and found.regression:
        entries.append(("var(--ink)", "", "●", f"sample, coloured by {found.label_names[0]}"))
    entries += [(style.colour, "", GLYPHS[style.symbol], name) for name, style in found.class_legend.items()]
    if found.multi_label and found.samples is not None:
        entries.append((UNGROUPED, "", "●", "several labels, or none"))
    if found.mark_kinds:
        entries.append(("var(--ink)", "font-size: 1.3em", "✖", found.mark_kinds))
    if found.traces:
        edge = "-webkit-text-stroke: 1px var(--ink); font-size: 1.2em"
        entries.append((STAR, edge, "★", "inspected text, by its number"))
    entry = Markup(
        '<span style="white-space: nowrap; margin-right: 1.2em"><span style="color: {}; {}">{}</span> {}</span>'
    )
    line = Markup(" ").join(entry.format(*parts) for parts in entries)
    return Markup('<p style="max-width: none">{}</p>').format(line)


def space_charts(found: Inspection) -> list[Figure]:
    """One chart for each exit."""
    return [
        Figure(_chart(found, space), space.title.replace("\n", "; "), f"Exit {space.exit} in two dimensions")
        for space in found.spaces
    ]


def _chart(found: Inspection, space: ExitSpace) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure(layout={"height": 340, "showlegend": False, "margin": {"t": 10, "b": 50, "l": 55, "r": 10}})
    for axis, title in zip(("xaxis", "yaxis"), space.axis_titles, strict=True):
        # Margins that follow the labels and axes that are to scale would take turns for ever.
        figure.layout[axis].update({"title": {"text": title, "font": {"size": 12}}, "automargin": False})
    if not space.stretched:
        figure.update_yaxes(scaleanchor="x")  # the same scale in both directions
    if found.samples is not None:
        _add_samples(figure, found, found.samples, space)
    # A white cross with a black edge below the coloured one: seen on white, on black, and on points of its colour.
    edge = {"symbol": "x", "size": 20, "color": "#ffffff", "line": {"color": "#000000", "width": 1}}
    figure.add_scatter(**_places(space.marks), mode="markers", hoverinfo="skip", marker=edge)
    kind = space.mark_kind.removesuffix("s")
    colours = [found.class_styles[label].colour for label in space.mark_labels]
    figure.add_scatter(
        **_places(space.marks),
        mode="markers",
        hovertext=[f"{kind} of {plain(found.label_names[label])}" for label in space.mark_labels],
        hoverinfo="text",
        marker={"symbol": "x", "size": 14, "color": colours},
    )
    texts = list(enumerate(found.traces, 1))
    figure.add_scatter(
        **_places(space.texts),
        mode="markers+text",
        text=[str(n) for n, _ in texts],
        textposition="middle center",
        hovertext=[
            _hover(space, f"{n}. {shorten(t.text, HOVER_LENGTH)}", "", t.steps[space.exit - 1].answer, t.exit)
            for n, t in texts
        ],
        hoverinfo="text",
        marker={"symbol": "star", "size": 23, "color": STAR, "line": {"color": "#000000", "width": 1}},
        textfont={"size": 11, "weight": "bold", "color": "#000000"},
    )
    return figure


def _add_samples(figure: Any, found: Inspection, samples: Samples, space: ExitSpace) -> None:
    gold, names = samples.labels.tolist(), found.label_names
    texts: list[Text] = samples.texts or [""] * len(gold)
    labels, predicted = gold, samples.predictions[space.exit - 1].tolist()
    if not found.regression:
        labels, predicted = ([label_of(names, number) for number in column] for column in (gold, predicted))
    hover = [
        _hover(space, shorten(text, HOVER_LENGTH), f"label {plain(written(label))}; ", prediction, taken)
        for text, label, prediction, taken in zip(texts, labels, predicted, samples.exits + 1, strict=True)
    ]
    looks = [(number, style.symbol, style.colour) for number, style in enumerate(found.class_styles)]
    groups = samples.groups.tolist()
    for number, symbol, colour in [*([(-1, "circle", UNGROUPED)] * found.multi_label), *looks]:
        rows = [row for row, group in enumerate(groups) if found.regression or group == number]
        marker: dict[str, Any] = {"size": 6, "opacity": 0.65, "symbol": symbol, "color": colour}
        if found.regression:
            bar = {"title": {"text": plain(names[0])}, "thickness": 10}
            values = [round(value, 4) for value in gold]
            marker |= {"color": values, "colorscale": "Cividis", "showscale": True, "colorbar": bar}
        hovered = [hover[row] for row in rows]
        places = _places(space.points[rows])
        figure.add_scatter(**places, mode="markers", hovertext=hovered, hoverinfo="text", marker=marker)


def _places(points: Any) -> dict[str, list[float]]:
    return {axis: [round(value, 5) for value in points[:, n].tolist()] for n, axis in enumerate("xy")}


def _hover(space: ExitSpace, text: str, label: str, prediction: Answer, taken: int) -> str:
    lines = [plain(line) for line in textwrap.wrap(text, HOVER_WIDTH)]
    decided = f"exit {space.exit} predicts {plain(written(prediction))}; leaves at exit {taken}"
    return "<br>".join([*lines, label + decided])
