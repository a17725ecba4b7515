"""The page of three small runs in a real Chromium: charts, sorting, hovering, themes, widths; nothing asked for."""

import re

import pytest
from made_runs import made_run, write_samples

from mebert.commands.compare.page import write_comparison_page
from mebert.commands.compare.run_view import read_run
from mebert.commands.compare.seed_groups import task_groups

pytestmark = pytest.mark.browser
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    places = [folder / "first", folder / "second", folder / "<script>alert(1)<"]
    made_run(places[0], 2)
    made_run(places[1], 1)
    recipe = "my.A<script>alert(2)Module"
    made_run(places[2], 3, quality=2.0, recipe=recipe, difficulty=True, curriculum=True)
    write_samples(places[2], SCRIPT)
    runs = [read_run(place, number, tested=False) for number, place in enumerate(places, start=1)]
    path = folder / "report.html"
    write_comparison_page(task_groups(runs), [1.5, 2.0], None, path)
    return path


@pytest.fixture(scope="module")
def wide(open_page, page_file):
    """The page at 1280 pixels, light; opened once, so that each test leaves it as it was."""
    return open_page(page_file)


@pytest.fixture(scope="module")
def phone(open_page, page_file):
    """The page on a dark phone."""
    return open_page(page_file, 390, "dark")


def column(page, header):
    """The texts of a column of the table that has this header, from top to bottom."""
    script = """header => {
        const cell = [...document.querySelectorAll('th')].find(th => th.textContent.trim() === header);
        const rows = cell.closest('table').tBodies[0].rows;
        return [...rows].map(row => row.cells[cell.cellIndex].textContent.trim());
    }"""
    return page.evaluate(script, header)


def colours(page):
    """What changes with the theme: the page's back and ink, and a chart's text, grid and hover label."""
    script = """() => {
        const body = getComputedStyle(document.body);
        const chart = document.querySelector('.chart');
        const text = getComputedStyle(chart.querySelector('.xtick text')).fill;
        const grid = getComputedStyle(chart.querySelector('.gridlayer path')).stroke;
        return [body.backgroundColor, body.color, text, grid, chart._fullLayout.hoverlabel.bgcolor];
    }"""
    return page.evaluate(script)


@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_drawn_and_fits(wide, phone, page_file, width):
    opened = wide if width == 1280 else phone
    assert opened.check_charts() == page_file.read_text(encoding="utf-8").count('type="application/json"') >= 7
    opened.check_width()
    page = opened.page
    assert page.title() == "rte: 3 runs", "no text has become a script"
    assert page.locator("img").count() == 0
    assert (
        page.evaluate("document.querySelector('.chart').querySelectorAll('.scatterlayer .trace path.js-line').length")
        >= 2
    )
    legend = page.locator(".chart").first.locator("g.legend").bounding_box()
    plot = page.locator(".chart").first.locator(".bglayer .bg, g.plot").first.bounding_box()
    below = legend["y"] >= plot["y"] + plot["height"]
    assert below == (width == 390), "right of the chart, and below it on a phone"
    assert legend["x"] + legend["width"] <= width
    cut = """() => [...document.querySelectorAll('.chart')].filter(chart => {
        const legend = chart.querySelector('g.legend')?.getBoundingClientRect();
        return legend && legend.bottom > chart.getBoundingClientRect().bottom + 1;
    }).length"""
    assert page.evaluate(cut) == 0, "no legend ends below its chart"
    boxes = page.locator(".chart").first.locator("g.updatemenu-button").all()
    edges = [box.bounding_box() for box in boxes]
    apart = [
        a["x"] + a["width"] <= b["x"] + 1
        or b["x"] + b["width"] <= a["x"] + 1
        or abs(a["y"] - b["y"]) >= a["height"] - 1
        for number, a in enumerate(edges)
        for b in edges[:number]
    ]
    assert len(edges) == 4
    assert all(apart), "no button lies on another one"
    assert (
        page.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.scrollWidth <= box.clientWidth)")
        is False
    )
    opened.check_quiet()


def test_a_header_sorts_and_sorts_back(wide):
    page = wide.page
    header = page.get_by_role("button", name="best exit")
    given = column(page, "best exit")
    assert given != sorted(given), "else sorting would change nothing"
    header.click()
    assert column(page, "best exit") == sorted(given)
    assert page.locator("th[aria-sort=ascending]").inner_text().strip() == "best exit"
    header.click()
    assert column(page, "best exit") == sorted(given, reverse=True)
    header.focus()
    page.keyboard.press("Enter")
    assert column(page, "best exit") == given
    assert page.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 0
    page.get_by_role("button", name="folder").click()
    assert column(page, "folder") == sorted(column(page, "folder"))
    page.get_by_role("button", name="setting", exact=True).click()
    assert column(page, "setting") == sorted(column(page, "setting"))


def test_numbers_sort_by_value_and_what_is_missing_comes_last(open_page, tmp_path):
    from mebert.report.page import Cell, Section, Table, write_page

    rows = [
        [2.0, "10x", "b10"],
        [None, "9x", "b9"],
        [-11.5, "1,200x", "a"],
        [-2.0, "1.5x", "c"],
        [0.5, "1.25x", "d"],
        [0.123456, "-", ""],
        [Cell("0.1235", 0.123449), "1", "-"],
    ]
    write_page(tmp_path / "t.html", "A table", "", [Section("Numbers", [Table(["n", "x", "w"], rows)])])
    page = open_page(tmp_path / "t.html").page
    expected = {
        "n": ["-11.5000", "-2.0000", "0.1235", "0.1235", "0.5000", "2.0000", "-"],
        "x": ["1", "1.25x", "1.5x", "9x", "10x", "1,200x", "-"],
    }
    for name, values in expected.items():
        page.get_by_role("button", name=name, exact=True).click()
        assert column(page, name) == values
        page.get_by_role("button", name=name, exact=True).click()
        assert column(page, name) == [*reversed(values[:-1]), "-"]
    page.get_by_role("button", name="w", exact=True).click()
    assert column(page, "w") == ["a", "b9", "b10", "c", "d", "", "-"]


@pytest.mark.slow
def test_many_exits_and_a_long_name_fit_a_phone_and_a_turn(open_page, tmp_path):
    """The legend is higher than the bars, the name wider than the screen; buttons go back to where they were."""
    import plotly.graph_objects as go

    from mebert.commands.compare.chart_parts import menu
    from mebert.report.page import Figure, Section, write_page

    bars = [go.Bar(x=[1], y=["a"], orientation="h", name=f"layer {layer}") for layer in range(24)]
    low = {"height": 150, "legend": {"orientation": "h"}, "barmode": "stack"}
    line = go.Scatter(x=[1, 2], y=[1, 2], name="a_name_" * 12 + "of &lt;somebody&gt;")
    menus = [menu(1.0, 1.0, [("right", "restyle", [{}])]), menu(0.0, 1.0, [("left", "restyle", [{}])])]
    high = {"height": 300, "updatemenus": menus, "showlegend": True}
    charts = [Figure(go.Figure(bars, low)), Figure(go.Figure(line, high))]
    write_page(tmp_path / "t.html", "Charts", "", [Section("Charts", charts)])
    opened = open_page(tmp_path / "t.html", 390)
    opened.check_charts()
    inside = """[...document.querySelectorAll('.chart')].every(chart => {
        const [legend, box, plot] = ['g.legend', '.main-svg', '.bglayer, g.cartesianlayer'].map(
            name => chart.querySelector(name).getBoundingClientRect());
        return legend.bottom <= box.bottom + 1 && legend.right <= box.right + 1 && legend.top >= plot.bottom
            && chart.querySelectorAll('g.legend .legendtext').length === chart.data.length
            && chart.querySelector('g.legend .bg').getBoundingClientRect().height <= box.height
            && chart._fullLayout._size.h > 50;
    })"""
    opened.until(inside)
    assert "of <somebody>" in opened.page.locator(".chart").nth(1).locator(".legendtext").text_content()
    rows = """(() => {
        const boxes = [...document.querySelectorAll('g.updatemenu-button')].map(box => box.getBoundingClientRect());
        return new Set(boxes.map(box => Math.round(box.y))).size;
    })()"""
    opened.until(f"{rows} === 2")
    write_page(tmp_path / "line.html", "A line", "", [Section("Charts", charts[1:])])
    wide = open_page(tmp_path / "line.html", 1280)
    for width, expected in ((1280, 1), (390, 2), (1280, 1)):
        wide.page.set_viewport_size({"width": width, "height": 900})
        wide.until(f"{rows} === {expected}")


def test_hovering_names_the_line(wide):
    page, chart = wide.page, wide.page.locator(".chart").first
    chart.scroll_into_view_if_needed()
    box = chart.locator(".scatterlayer .trace path.js-line").nth(1).bounding_box()
    for share in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9):
        line = page.evaluate(
            """share => {
                const chart = document.querySelector('.chart');
                const path = [...chart.querySelectorAll('.scatterlayer .trace path.js-line')].at(-1);
                const point = path.getPointAtLength(share * path.getTotalLength());
                const at = point.matrixTransform(path.getScreenCTM());
                return [at.x, at.y];
            }""",
            share,
        )
        page.mouse.move(*line)
        page.wait_for_timeout(80)
        if page.locator(".hoverlayer .hovertext").count():
            break
    said = page.locator(".hoverlayer .hovertext").first.text_content()
    assert box["width"] > 200
    assert "x by FLOPs" in said
    assert "threshold" in said
    assert "MultiExit" in said or "A<script>alert(2)" in said


def test_a_chart_is_saved_as_a_picture_and_sent_nowhere(wide):
    page = wide.page
    chart = page.locator(".chart").first
    chart.hover()
    names = [button.get_attribute("data-title") for button in chart.locator(".modebar-btn").all()]
    assert len(names) == 6
    assert not [name for name in names if re.search("cloud|studio|plotly|share|edit", name, re.IGNORECASE)]
    with page.expect_download() as download:
        chart.locator(".modebar-btn").first.click()
    assert download.value.path().read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    wide.check_quiet()


def test_light_and_dark(wide, phone):
    page, button = wide.page, wide.page.locator("#theme")
    light = colours(page)
    assert button.inner_text() == "Dark"
    button.click()
    dark = colours(page)
    assert all(a != b for a, b in zip(light, dark, strict=True))
    assert button.inner_text() == "Light"
    button.click()
    assert colours(page) == light
    assert colours(phone.page) == dark, "as the system wants it"
    phone.page.emulate_media(color_scheme="light")
    phone.until("document.querySelector('#theme').textContent === 'Dark'")
    assert colours(phone.page) == light, "while the page is open"
    phone.page.emulate_media(color_scheme="dark")


def test_a_phone_is_turned(phone):
    """A window that becomes wide has its legend on the right, and below again when it is narrow."""
    below = """(() => {
        const chart = document.querySelector('.chart');
        const legend = chart.querySelector('g.legend').getBoundingClientRect();
        return legend.top > chart.querySelector('.xtitle').getBoundingClientRect().bottom;
    })()"""
    phone.until(below)
    height = phone.page.locator(".chart").first.bounding_box()["height"]
    phone.page.set_viewport_size({"width": 1280, "height": 900})
    phone.until(f"!{below}")
    phone.check_width()
    phone.page.set_viewport_size({"width": 390, "height": 900})
    phone.until(below)
    phone.check_width()
    phone.until(f"Math.abs(document.querySelector('.chart').getBoundingClientRect().height - {height}) < 12")
    phone.check_quiet()
