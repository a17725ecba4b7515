"""Pages by their parts: what is escaped, what a table takes for a number, what is in the file."""

import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from markupsafe import Markup

from mebert.report.page import Cell, Figure, Grid, Html, Note, Section, Table, plain, render_page, write_page

EVIL = "</script><img src=x onerror=alert(1)>&\u2028"


def test_every_text_is_escaped_but_html_of_our_own():
    parts = [
        Note(EVIL, EVIL),
        Html(EVIL, EVIL),
        Html(Markup("<i>{}</i>").format(EVIL)),
        Table([EVIL], [[EVIL], [Cell(EVIL, title=EVIL, colour="#123456")]], EVIL),
        Grid([Figure(go.Figure(go.Scatter(x=[1], y=[1], name=EVIL)), EVIL, EVIL)], 200),
    ]
    page = render_page(EVIL, EVIL, [Section(EVIL, parts, EVIL, [Section(EVIL, parts[:1])])])
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 15
    assert page.count("<i>") == 1
    assert page.count("</script>") == 3, "a chart, plotly.js and the page's own"
    content = re.search(r'<script type="application/json" id="chart-0">(.*?)</script>', page).group(1)
    assert json.loads(content)["data"][0]["name"] == EVIL, "the very text, in a form that ends no script"
    assert "template" not in json.loads(content)["layout"]


def test_plotly_is_there_once_and_only_for_a_chart(tmp_path):
    chart = Figure(go.Figure(go.Scatter(x=np.arange(3), y=np.arange(3))))
    write_page(tmp_path / "deep/a.html", "A", "", [Section("s", [chart, Grid([chart, chart])])])
    page = (tmp_path / "deep/a.html").read_text(encoding="utf-8")
    assert page.count("plotly.js v") == 1
    assert page.count('class="chart"') == page.count('type="application/json"') == 3
    assert len(render_page("A", "", [Section("s", [Note("no chart")])])) < 30_000


def test_what_a_table_takes_for_a_number():
    rows = [
        [1, 0.123456, "x", None, Cell("2x", 2.0)],
        [1200, None, "1", None, "-"],
        [3, float("nan"), "", None, Cell("y")],
    ]
    table = Table(["a", "b", "c", "d", "e"], rows, digits=2)
    cells = table.cells()
    assert table.numeric() == [True, True, False, False, False]
    assert [cell.text for cell in cells[0]] == ["1", "0.12", "x", "-", "2x"]
    assert [cell.sort for cell in cells[0]] == [1.0, 0.123456, None, None, 2.0], "sorted by the whole number"
    assert [row[1].text for row in cells] == ["0.12", "-", "-"]
    assert cells[1][0].text == "1,200"
    assert Table(["a"], []).numeric() == [False]
    with pytest.raises(ValueError, match="argument 2"):
        Table(["a"], [[1], [1, 2]]).numeric()


def test_plotly_reads_neither_tags_nor_templates():
    assert plain("<a href='x'>&%{y}") == "&lt;a href='x'&gt;&amp;&#37;{y}"
