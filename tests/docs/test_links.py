"""Relative links of README, docs and notebooks, and the files and Python names of the package that they mention."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATH = r"(?<![\w/.-])((?:mebert|tests|benchmarks|configs|notebooks)/[\w/]*\w\.(?:py|md|yaml|ipynb|sbatch))\b"

each = pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)


@cache
def prose(page: Path) -> str:
    """The text without code blocks; of a notebook its Markdown cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(r"^(    .*|```[\s\S]*?^```)$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda span: re.sub(r"[\[\]()]", "", span[0]), text)


def links(page: Path) -> list[str]:
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]


@cache
def anchors(page: Path) -> set[str]:
    """GitHub's anchors of the headings: lower case, no punctuation, hyphens for spaces, repeated ones numbered."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", prose(page), flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for known in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:known]))
        except ModuleNotFoundError:
            continue
        for part in parts[known:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@each
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: no heading for {link}; there are {sorted(anchors(target))}"


@each
def test_files_and_python_names_exist(page):
    text = page.read_text(encoding="utf-8")
    if page.name in ("CHANGELOG.md", "errors.md"):  # old names; names that are wrong on purpose
        return
    assert [path for path in re.findall(PATH, text) if not (ROOT / path).exists()] == []
    names = set(re.findall(r"(?<![\w/.])mebert(?:\.[A-Za-z_]\w*)+(?!\w*[/@-])", text))
    names |= {f"{a}.{b}" for a, b in re.findall(r"from (mebert[\w.]*) import (\w+)", text)}
    assert [name for name in sorted(names) if not resolves(name)] == []


def test_readme_is_short_and_every_page_is_linked_from_it_or_the_index():
    entries = (ROOT / "README.md", ROOT / "docs/index.md")
    assert len(entries[0].read_text(encoding="utf-8").splitlines()) <= 200
    linked = {(entry.parent / link.partition("#")[0]).resolve() for entry in entries for link in links(entry)}
    assert [page.name for page in [*PAGES[1:], *NOTEBOOKS] if page not in linked] == []


def test_architecture_lists_the_folders_in_the_order_of_the_import_contract():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)(?:/|\.py)` \| .* \| (.*?) \|$", text, flags=re.MULTILINE))
    assert list(rows) == contract[0]["layers"]
    graph = grimp.build_graph("mebert", cache_dir=None)
    for name, listed in rows.items():
        own = [module for module in graph.modules if module.split(".")[1:2] == [name]]
        imported = {part for module in own for i in graph.find_modules_directly_imported_by(module)
                    for part in i.split(".")[1:2]}  # fmt: skip
        assert set(re.findall(r"\w+", listed)) == imported - {name}, name


def test_dependencies_have_a_pin_and_a_lower_bound():
    """constraints.txt pins every dependency, constraints-min.txt the lower bound that pyproject.toml gives."""

    def pins(name: str) -> dict[str, str]:
        lines = [line.split("==") for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if "==" in line]
        return {package.lower(): version.strip() for package, version in lines}

    newest, oldest = pins("constraints.txt"), pins("constraints-min.txt")
    found = re.findall(
        r'"([A-Za-z][\w.-]*)(?:\[[\w,]+\])?>=([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    bounds = {package.lower(): version for package, version in found if package not in ("setuptools", "mebert")}
    assert set(bounds) == set(oldest), "every lower bound of pyproject.toml stands in constraints-min.txt"
    for package, bound in bounds.items():
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", oldest[package]), package
        assert package in newest or package.replace("-", "_") in newest, package
