"""The figures in the pages of results and in README.md are those of the benchmarks' results."""

import subprocess
import sys
from pathlib import Path

import pytest

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
    "results_page": "write_page(Path({folder!r}), Path({folder!r}) / 'README.md')",
    "exit_prediction_report": "write_report(Path({folder!r}))",
}
PAGES = {"speed_report": ["speed.md"], "speed_onnx": ["speed.md"], "compiled": ["speed.md"]}
PAGES |= {"results_page": ["results.md", "recipe.md", "README.md"], "exit_prediction_report": ["exit_prediction.md"]}
PICTURES = {"results_page": 2, "study_report": 1, "minilm_report": 1, "curriculum_report": 1, "geep_report": 1}


def shipped(name):
    return (ROOT / name if name == "README.md" else ROOT / "docs" / name).read_text(encoding="utf-8")


FAST = "results_page"


@pytest.mark.parametrize(
    "report", [pytest.param(name, marks=[] if name == FAST else pytest.mark.slow) for name in REPORTS]
)
def test_the_page_is_what_the_report_writes(report, tmp_path):
    names = PAGES.get(report, ["results_small.md"])
    for name in {*names, "README.md"}:
        (tmp_path / name).write_text(shipped(name), encoding="utf-8")
    call = REPORTS[report].format(folder=str(tmp_path))
    code = f"import sys; from pathlib import Path; sys.path.insert(0, 'benchmarks'); from {report} import *; {call}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    for name in names:
        assert (tmp_path / name).read_text(encoding="utf-8") == shipped(name)
    assert len(list(tmp_path.glob("*.png"))) == PICTURES.get(report, 0)


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
    assert (page.percent([0.5]), page.difference([0.01])) == ("50.0", "+1.0"), "one value has no spread"
    assert page.difference([0.01, 0.03, -0.01]) == "+1.0 ± 2.0 (2 of 3 up)"
    assert page.difference([0.01] * 6, 2) == "+1.00 ± 0.00 (6 of 6 up, p 0.031)", "Wilcoxon, exact: 2 / 2**6"
