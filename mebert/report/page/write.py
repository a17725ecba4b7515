"""Renders the parts of a page as one HTML file without external resources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.report.page.parts import Figure, Section
from mebert.storage.atomic import write_text

if TYPE_CHECKING:
    from markupsafe import Markup

FOLDER = Path(__file__).parent


def write_page(path: str | Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write a page."""
    write_text(render_page(title, lead, sections), Path(path))


def render_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The page as a text; arguments as `write_page`. plotly.js is included once, and only if there is a chart."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    charts: list[Markup] = []

    def chart(figure: Figure) -> int:
        charts.append(_as_json(figure.figure))
        return len(charts) - 1

    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, **options)
    environment.globals["chart"] = chart
    environment.globals |= {n: Markup((FOLDER / f"page.{n}").read_text(encoding="utf-8")) for n in ("css", "js")}
    environment.filters["kind"] = lambda part: type(part).__name__
    body = Markup(environment.get_template("sections.html").render(sections=sections))
    return environment.get_template("page.html").render(
        title=title,
        lead=lead,
        sections=sections,
        body=body,
        charts=charts,
        plotly=Markup(get_plotlyjs()) if charts else None,
    )


def _as_json(figure: Any) -> Markup:
    """A figure as JSON for a script element, escaped so that no text in it can end the element."""
    from markupsafe import Markup
    from plotly.io.json import to_json_plotly

    content = figure.to_plotly_json()
    content["layout"].pop("template", None)  # page.js has its own, for light and for dark
    text = to_json_plotly(content)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
