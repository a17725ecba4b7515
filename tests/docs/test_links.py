"""Every relative link of README, docs and notebooks leads somewhere; the README links every page and notebook."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@cache
def text_of(page: Path) -> str:
    """The page's prose; of a notebook its markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"^(    .*|```[\s\S]*?^```)$", "", text, flags=re.MULTILINE)  # code
    return re.sub(r"`[^`\n]*`", lambda span: re.sub(r"[\[\]()]", "", span[0]), text)


def links(page: Path) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)) if "://" not in link]


@cache
def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, punctuation dropped, spaces to hyphens, repeated ones numbered."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", text_of(page), flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: no heading for {link}; there are {sorted(anchors(target))}"


def test_every_page_is_linked_from_the_readme():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert [page.name for page in [*PAGES[1:], *NOTEBOOKS] if page not in linked] == []


def test_there_is_something_to_check():
    assert sum(len(links(page)) for page in PAGES) > 40
    assert "how-sure-is-a-figure" in anchors(ROOT / "docs" / "running.md")
    assert "multiexitmodule-joint-training" in anchors(ROOT / "docs" / "methods.md")
