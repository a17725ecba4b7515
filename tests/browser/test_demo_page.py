"""`python -m mebert demo` in a real Chromium: a text is typed, the slider moved, the exits light up in their order."""

import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCRIPT = "<img src=x onerror=\"document.title='owned'\"> <b>anna</b> ${document.title='owned'} {{value}}"


@pytest.fixture(scope="module")
def address(trained_run):
    """Where the command serves a model of pairs, which has several stored speeds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", "mebert", "demo", "runs/tiny/version_0", "--port", "0", "--policy", "entropy"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, cwd=trained_run, env=environment, **pipes) as process:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
        process.kill()


@pytest.fixture
def opened(chromium, address, request):
    """A page without any network but the command's own server, which must not miss it."""
    width, scheme = getattr(request, "param", (1280, "light"))
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(20_000)
    asked, said = [], []

    def only_here(route):
        asked.append(route.request.url)
        route.continue_() if urlsplit(route.request.url).netloc == urlsplit(address).netloc else route.abort()

    context.route(re.compile("^(http|ws)"), only_here)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"pageerror: {error}"))
    page.goto(address)
    page.get_by_label("Text 1").wait_for()
    yield page
    context.close()
    assert [url for url in asked if urlsplit(url).netloc != urlsplit(address).netloc] == []
    assert [line for line in said if not line.startswith("info")] == []


def classify(page, first="anna likes dogs", second="anna likes animals"):
    page.get_by_label("Text 1").fill(first)
    page.get_by_label("Text 2").fill(second)
    page.get_by_role("button", name="Classify").click()
    page.locator(".exits li").first.wait_for()


def states(page):
    return page.evaluate("[...document.querySelectorAll('.exits li')].map(li => li.className)")


def move(page, key):
    """Move the slider to an end by the keyboard, and wait until its point is shown."""
    slider = page.get_by_label("range slider for Speed")
    slider.focus()
    page.keyboard.press(key)
    name = slider.get_attribute("aria-valuetext")
    page.locator(".mebert strong", has_text=name).first.wait_for()
    page.wait_for_timeout(500)
    return name


def test_a_text_is_typed_and_the_slider_moved(opened):
    classify(opened)
    assert "full depth" in move(opened, "Home")
    assert states(opened) == ["passed", "passed", "taken"]
    opened.get_by_text("3 of 3 layers run, 100.0 % of the full model").wait_for()
    assert "x" in move(opened, "End")
    fast = states(opened)
    assert fast[-1] == "unreached"
    assert "would have answered" in opened.locator(".exits .unreached").last.inner_text()
    label = opened.locator(".verdict strong").inner_text()
    assert label in ("entailment", "neutral", "contradiction")
    shares = [float(text.split()[0]) for text in opened.locator(".shares .number").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    assert opened.locator(".exits .taken .says").inner_text() == label
    assert re.search(r"the threshold 0\.\d+", opened.locator(".mebert", has_text="Speed ").inner_text())
    marks = opened.locator(".marks li").all_inner_texts()
    assert marks[0] == "1x"
    assert opened.locator(".marks .here").inner_text() == marks[-1]
    opened.get_by_text("the labels entailment, neutral, contradiction").wait_for()


def test_exits_light_up_one_by_one_each_time(opened):
    at = """time => [...document.querySelectorAll('.exits li')].map(li => {
        const [light] = li.getAnimations();
        light.pause();
        light.currentTime = time;
        return Number(getComputedStyle(li).opacity);
    })"""
    classify(opened)
    move(opened, "Home")
    lit = [[opacity == 1 for opacity in opened.evaluate(at, time)] for time in (0, 301, 601, 901)]
    assert lit == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]
    assert opened.evaluate(at, 0)[0] == pytest.approx(0.35)
    classify(opened, "bob fears cats", "bob can dance")
    opened.get_by_text("bob fears cats | bob can dance").wait_for()
    again = "document.querySelector('.exits li').getAnimations()[0].playState !== 'paused'"
    opened.wait_for_function(again)  # for the next text, too


def test_without_motion_all_is_lit_at_once(opened):
    opened.emulate_media(reduced_motion="reduce")
    classify(opened)
    assert opened.evaluate("document.querySelector('.exits').getAnimations({subtree: true}).length") == 0


def test_html_is_shown_as_text(opened):
    classify(opened, SCRIPT, SCRIPT)
    assert SCRIPT in opened.locator("#answer").inner_text()
    assert opened.locator("#answer img, #answer b").count() == 0
    assert opened.title() == "mebert: runs/tiny/version_0"


def test_a_missing_text_is_told(opened):
    opened.get_by_label("Text 1").fill("anna likes dogs")
    opened.get_by_role("button", name="Classify").click()
    opened.get_by_text("Type both texts.").wait_for()
    assert opened.locator(".exits li").count() == 0


def test_an_example_is_answered_by_a_click(opened):
    opened.locator(".gallery-item, tbody tr").first.click()
    opened.locator(".exits li").first.wait_for()
    assert opened.get_by_label("Text 1").input_value()


@pytest.mark.parametrize("opened", [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], indirect=True)
def test_it_can_be_read_in_every_theme_and_width(opened):
    classify(opened)
    move(opened, "End")
    opened.wait_for_timeout(1500)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.evaluate(wide) <= 0
    contrasts = opened.evaluate("""() => {
        const light = colour => {
            const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        };
        const behind = node => {
            for (let at = node; at; at = at.parentElement) {
                const colour = getComputedStyle(at).backgroundColor;
                if (!/, 0\\)$|transparent/.test(colour)) return colour;
            }
            return 'rgb(255, 255, 255)';
        };
        return [...document.querySelectorAll('.mebert *, #speed .info-text, label span')]
            .filter(node => [...node.childNodes].some(one => one.nodeType === 3 && one.textContent.trim()))
            .map(node => {
                const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
                return [Math.max(a, b) / Math.min(a, b), node.textContent.slice(0, 40)];
            });
    }""")
    assert len(contrasts) > 15
    assert min(contrasts)[0] >= 4.5, f"WCAG AA: {min(contrasts)}"
