"""A real Chromium for the pages; the tests are skipped, with the reason, where there is none."""

import os
import shutil
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def chromium():
    """A running browser: $CHROMIUM, one that is installed, or playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    named = os.environ.get("CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    with api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = found or (own if own and Path(own).is_file() else None)
        if path is None:
            stop = pytest.fail if os.environ.get("MEBERT_BROWSER") == "required" else pytest.skip
            stop(f"no Chromium: set $CHROMIUM, install one of {', '.join(NAMES)}, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


class Opened:
    """A page from a file, and what it said and asked for while it was open.

    Args:
        page: playwright's.
    """

    def __init__(self, page):
        self.page = page
        self.said = []
        self.asked = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"pageerror: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))

    def check_quiet(self):
        """No message, and nothing asked for outside of the file."""
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("file://", "data:", "blob:"))] == []

    def check_width(self):
        """The page is not wider than the window: only tables scroll, in their own boxes."""
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.page.evaluate(wide) <= 0

    def until(self, script, seconds=10):
        """Wait until a JavaScript expression is true; playwright's own way needs eval, which the page bans."""
        for _ in range(seconds * 20):
            if self.page.evaluate(script):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never true: {script}")

    def check_charts(self):
        """Every chart is drawn; returns how many there are."""
        self.until("[...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg path'))")
        return self.page.locator(".chart").count()


@pytest.fixture(scope="module")
def open_page(chromium):
    """`open_page(path, width=1280, scheme="light")` gives an `Opened`; at the module's end it must have been quiet."""
    opened = []

    def open_it(path, width=1280, scheme="light"):
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(10_000)
        found = Opened(page)
        opened.append(found)
        page.goto(Path(path).resolve().as_uri())
        return found

    yield open_it
    for one in opened:
        one.check_quiet()
        one.page.close()
