"""Renders the parts of a page as one HTML file without external resources."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.report.page.parts import Figure, Grid, Html, Note, Section, Table

if TYPE_CHECKING:
    from markupsafe import Markup

FOLDER = Path(__file__).parent


def write_page(path: str | Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write a page."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(title, lead, sections), encoding="utf-8")


def render_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The page as a text; arguments as `write_page`. plotly.js is included once, and only if there is a chart."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    charts: list[Markup] = []

    def chart(figure: Figure) -> int:
        charts.append(_as_json(figure.figure))
        return len(charts) - 1

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "chart": chart,
        "css": Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        "js": Markup((FOLDER / "page.js").read_text(encoding="utf-8")),
    }
    environment.tests |= {name.__name__.lower(): _is(name) for name in (Table, Figure, Note, Html, Grid)}
    body = Markup(environment.get_template("sections.html").render(sections=sections))
    return environment.get_template("page.html").render(
        title=title,
        lead=lead,
        sections=sections,
        body=body,
        charts=charts,
        plotly=Markup(_plotly_js()) if charts else None,
    )


def _is(kind: type) -> Any:
    return lambda part: isinstance(part, kind)


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


@lru_cache(maxsize=1)
def _plotly_js() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
