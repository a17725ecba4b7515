"""docs/results.md holds what the benchmarks' results say, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.fixture
def page():
    return pytest.importorskip("page", reason="the folder benchmarks is not there")


@pytest.mark.parametrize(
    ("report", "results"),
    [
        ("study_report", "study"),
        ("minilm_report", "minilm"),
        ("curriculum_report", "curriculum"),
        ("geep_report", "geep"),
    ],
)
def test_every_figure_of_the_page_is_made_from_the_results(report, results, tmp_path):
    (tmp_path / "results.md").write_text((ROOT / "docs/results.md").read_text(encoding="utf-8"), encoding="utf-8")
    arguments = "Path('benchmarks/results/minilm'), " if results == "minilm" else ""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'benchmarks'); "
        f"from {report} import write_report; write_report({arguments}Path({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    made, shipped = (folder / "results.md" for folder in (tmp_path, ROOT / "docs"))
    assert made.read_text(encoding="utf-8") == shipped.read_text(encoding="utf-8")
    assert list(tmp_path.glob("*.png")), "with its picture"


def test_every_figure_of_speed_is_made_from_the_measurements(tmp_path):
    shipped = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    (tmp_path / "speed.md").write_text(shipped, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'benchmarks'); "
        f"from speed_report import write_report; write_report(Path({str(tmp_path / 'speed.md')!r}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "speed.md").read_text(encoding="utf-8") == shipped
    assert "| wall/FLOPs |" in shipped


def test_a_part_leaves_the_others_alone(page, tmp_path):
    target = tmp_path / "page.md"
    page.write_part(target, "curriculum", "new")
    page.write_part(target, "de3", "old\n\ntext")
    page.write_part(target, "curriculum", "newer")
    text = target.read_text(encoding="utf-8")
    assert text.index("old\n\ntext") < text.index("newer")
    assert "new\n" not in text


def test_a_sentence_without_its_figure_is_refused(page, tmp_path):
    (tmp_path / "template.md").write_text("{{there}} and {{missing}}", encoding="utf-8")
    with pytest.raises(SystemExit, match="missing"):
        page.fill(tmp_path / "template.md", {"there": "1"})


def test_mean_and_spread(page):
    assert page.percent([0.5, 0.7]) == "60.0 ± 14.1"
    assert page.difference([0.01, 0.03, -0.01]) == "+1.0 ± 2.0 (2 of 3 up)"
