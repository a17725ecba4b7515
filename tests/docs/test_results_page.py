"""The figures in docs/results.md and docs/speed.md are those of the benchmarks' results."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
page = pytest.importorskip("page")

REPORTS = {
    "study_report": "write_report(Path({folder!r}))",
    "minilm_report": "write_report(Path('benchmarks/results/minilm'), Path({folder!r}))",
    "curriculum_report": "write_report(Path({folder!r}))",
    "geep_report": "write_report(Path({folder!r}))",
    "speed_report": "write_report(Path({folder!r}) / 'speed.md')",
    "speed_onnx": "write_report(Path({folder!r}) / 'speed.md')",
    "compiled": "write_report(Path({folder!r}) / 'speed.md')",
    "recipe_report": "write_report(Path({folder!r}), Path({folder!r}) / 'README.md')",
    "exit_prediction_report": "write_report(Path({folder!r}))",
}
PAGES = {"speed_report": "speed.md", "speed_onnx": "speed.md", "compiled": "speed.md", "recipe_report": "recipe.md"}
PAGES |= {"exit_prediction_report": "exit_prediction.md"}


@pytest.mark.parametrize("report", REPORTS)
def test_the_page_is_what_the_report_writes(report, tmp_path):
    name = PAGES.get(report, "results.md")
    shipped = (ROOT / "docs" / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(shipped, encoding="utf-8")
    (tmp_path / "README.md").write_text(readme := (ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    call = REPORTS[report].format(folder=str(tmp_path))
    code = f"import sys; from pathlib import Path; sys.path.insert(0, 'benchmarks'); from {report} import *; {call}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / name).read_text(encoding="utf-8") == shipped
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == readme
    assert report in PAGES or list(tmp_path.glob("*.png")), "with its picture"


def test_a_part_leaves_the_others_alone(tmp_path):
    target = tmp_path / "page.md"
    page.write_part(target, "curriculum", "new")
    page.write_part(target, "de3", "old\n\ntext")
    page.write_part(target, "curriculum", "newer")
    text = target.read_text(encoding="utf-8")
    assert text.index("old\n\ntext") < text.index("newer")
    assert "new\n" not in text


def test_a_sentence_without_its_figure_is_an_error(tmp_path):
    (tmp_path / "template.md").write_text("{{there}} and {{missing}}", encoding="utf-8")
    with pytest.raises(SystemExit, match="missing"):
        page.fill(tmp_path / "template.md", {"there": "1"})


def test_mean_and_spread():
    assert page.percent([0.5, 0.7]) == "60.0 ± 14.1"
    assert page.difference([0.01, 0.03, -0.01]) == "+1.0 ± 2.0 (2 of 3 up)"
