"""The figures under load in docs/serving.md are those that were measured."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "serving.md", ROOT / "benchmarks" / "results" / "serving"
sys.path.insert(0, str(ROOT / "benchmarks"))
import serving_report as report  # noqa: E402


def test_the_figures_of_the_page_are_those_of_the_results(monkeypatch, tmp_path):
    start, end = report.MARKS
    shown = PAGE.read_text(encoding="utf-8").partition(start)[2].partition(end)[0].strip()
    monkeypatch.setattr(report, "picture", lambda *_: None)
    copy = tmp_path / "serving.md"
    copy.write_text(f"{start}\n{end}", encoding="utf-8")
    report.write_report(RESULTS, copy)
    assert shown == copy.read_text(encoding="utf-8").partition(start)[2].partition(end)[0].strip()
    assert PAGE.with_suffix(".png").is_file()
