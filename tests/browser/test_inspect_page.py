"""The page of `inspect` in a real browser: texts, tokens, spaces."""

from contextlib import chdir

import pytest
from runs import experiment, newest, run, write_config

from mebert.cli.main import main

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)> all cats are animals"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspected")
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    settings["exit_prediction"] = {"kind": "token"}
    settings["test_after_fit"] = False
    with chdir(folder):
        assert run("fit", "--config", str(write_config(folder, settings))) == 0
        arguments = ["inspect", str(newest(folder)), "--pair", EVIL, "some cats sleep", "--pair", "a dog is red", "b"]
        assert main([*arguments, "--out", "report.html", "--device", "cpu"]) == 0
    return folder / "report.html"


def test_everything_is_shown_and_nothing_is_run(report, open_page):
    opened = open_page(report)
    assert opened.check_charts() == 3, "one an exit"
    page = opened.page
    assert page.locator("table").count() >= 5
    assert "1. <img src=x onerror=alert(1)> all cats are animals | some cats sleep" in page.inner_text("main")
    assert page.locator("main img").count() == 0, "the text is no element"
    tokens = page.locator(".tokens").first.locator("span")
    layers = tokens.evaluate_all("them => them.map(one => one.querySelector('sub').textContent)")
    assert layers
    assert set(layers) <= {"1", "2", "3"}
    grounds = tokens.evaluate_all("them => them.map(one => getComputedStyle(one).backgroundColor)")
    assert len(set(grounds)) > 1, "special tokens are grey, others coloured by their layer"
    star = page.locator(".chart").first.locator(".scatterlayer .trace").last.locator("path.point").first
    star.scroll_into_view_if_needed()
    star.hover(force=True)
    page.wait_for_selector(".hoverlayer text")
    assert "leaves at exit" in page.text_content(".hoverlayer")
    # What lies below a star may be nearer to the pointer: the star itself.
    page.mouse.move(0, 0)
    opened.until("!document.querySelector('.hoverlayer text')")
    page.evaluate(
        "() => { const c = document.querySelector('.chart');"
        " Plotly.Fx.hover(c, [{ curveNumber: c.data.length - 1, pointNumber: 0 }]); }"
    )
    page.wait_for_selector(".hoverlayer text")
    assert "1. <img src=x onerror=alert(1)> all cats are animals |" in page.text_content(".hoverlayer")
    opened.check_width()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(report, open_page, scheme):
    opened = open_page(report, width=390, scheme=scheme)
    assert opened.check_charts() == 3
    opened.check_width()
    chip = opened.page.locator(".tokens span").nth(1)
    colours = chip.evaluate("one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]")
    assert contrast(*colours) > 4.5, "WCAG AA, in both themes"


def contrast(*colours):
    light = []
    for colour in colours:
        rgb = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(light) / min(light)
