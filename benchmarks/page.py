"""Pages of results: the appendix is made of parts, of which each comparison writes its own."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

PARTS = ("study", "de3", "curriculum", "geep")
HEAD = """# Comparisons on small samples

*An appendix of [results.md](results.md). Training sets here are small (1,000 to 9,000 rows, one to three epochs), so
the figures compare methods with each other, and at more rows some verdicts turn round. Made by
the commands named in each part:
[all recipes with all exit policies](#all-recipes-with-all-exit-policies),
[DE3-BERT](#de3-bert-with-all-minilm-l6-v2),
[curriculum learning and distillation between exits](#curriculum-learning-and-distillation-between-exits), and
[GEEP, FastBERT and joint training](#geep-fastbert-and-joint-training).*
"""


def write_part(page: Path, part: str, text: str) -> None:
    """Put one part into the page, between its marks."""
    found = {}
    if page.exists():
        old = page.read_text(encoding="utf-8")
        found = dict(re.findall(r"<!-- part: (\w+) -->\n(.*?)<!-- end: \1 -->", old, flags=re.DOTALL))
    found[part] = text.strip() + "\n"
    parts = [f"<!-- part: {name} -->\n{found[name]}<!-- end: {name} -->\n" for name in PARTS if name in found]
    page.write_text("\n".join([HEAD, *parts]), encoding="utf-8")


def replace_between(page: Path, marks: tuple[str, str], text: str) -> None:
    """Put a text between two marks of a page.

    Raises:
        SystemExit: The page has no such marks.
    """
    start, end = marks
    old = page.read_text(encoding="utf-8")
    pattern = f"{re.escape(start)}.*{re.escape(end)}"
    new, times = re.subn(pattern, lambda _: f"{start}\n{text}\n{end}", old, flags=re.DOTALL)
    if not times:
        raise SystemExit(f"{page} has no place for the figures: {start} ... {end}")
    page.write_text(new, encoding="utf-8")
    print(f"wrote the figures of {page}")


def fill(template: Path, values: dict[str, str]) -> str:
    """The template's text with every {{name}} replaced.

    Raises:
        SystemExit: A name without a value: a sentence would stand without its figure.
    """
    text = template.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    left = re.findall(r"\{\{\w+\}\}", text)
    if left:
        raise SystemExit(f"{template.name}: nothing to fill in for {', '.join(left)}")
    return text


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join("---" for _ in header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def percent(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds, in percent; one value has no deviation."""
    points = [100 * value for value in values]
    spread = f" ± {statistics.stdev(points):.1f}" if len(points) > 1 else ""
    return f"{statistics.mean(points):.1f}{spread}"


def difference(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation of paired differences, in points, how many are gains, and the p-value.

    A single difference stands alone. The p-value is of Wilcoxon's signed-rank test (two-sided, over tasks and seeds),
    from six pairs on: fewer cannot be told from chance by it.
    """
    from scipy.stats import wilcoxon

    points = [100 * value for value in values]
    if not points:
        return "-"
    if len(points) == 1:
        return f"{points[0]:+.{digits}f}"
    spread = statistics.stdev(points)
    gains = f"{sum(p > 0 for p in points)} of {len(points)} up"
    if len(points) >= 6 and any(points):
        gains += f", {p_words(float(wilcoxon(points).pvalue))}"
    return f"{statistics.mean(points):+.{digits}f} ± {spread:.{digits}f} ({gains})"


def p_words(p_value: float) -> str:
    """A p-value, as in `p 0.031` or `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p {p_value:.3f}"
