"""The report of `benchmarks/speed_onnx.py`: which backend for which batch, from what `bench` has written."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import speed_onnx  # noqa: E402


def row(name, precision, seconds, target=None, batch=1):
    times = [seconds, 2 * seconds, seconds]  # a slow round, for all
    rate = {"samples_per_second": 1 / seconds, "speedup_flops": target or 1.0}
    return {"name": name, "precision": precision, "batch_size": batch, "target": target, "seconds": times, **rate}


def test_the_report_names_the_fastest_and_says_what_was_missed(tmp_path):
    rows = [row("HF", "float32", 1.0), row("plain", "float32", 0.9), row("ONNX", "float32", 0.5)]
    rows += [
        row("ONNX chain", "float32", 0.6),
        row("ONNX chain", "float32", 0.25, 2.0),
        row("shrink", "int8", 0.3, 2.0),
    ]
    rows += [row("ONNX", "int8", 0.3), row("ONNX chain", "int8", 0.31), row("ONNX chain", "int8", 0.125, 2.0)]
    rows += [row("HF", "float32", 9.0, batch=8), row("HF sorted", "float32", 4.0, batch=8)]
    rows += [row("shrink", "float32", 2.0, 2.0, 8), row("ONNX chain", "float32", 2.5, 2.0, 8)]
    text = speed_onnx.as_text({2: speed_onnx.Rows({"rows": rows, "setting": {"device": "a CPU"}})})
    whole, best = "ONNX, whole, float32 (2.00) | ONNX, whole, int8 (3.33)", "ONNX chain, int8 (8.00)"
    assert f"| 1 | {whole} | ONNX chain, float32 (4.00) | {best} |" in text
    assert "| 8 | Hugging Face, float32 (1.00) | Hugging Face, float32 (1.00) | `shrink`, float32 (2.00) |" in text
    assert "| 2 | chain at full depth over the whole graph, float32, batch 1 | 0.93 | 0.83 | no |" in text
    assert "| 2 | chain at 2.00x by FLOPs in int8 over Hugging Face in float32, batch 1 | 5 | 8.00 | yes |" in text
    assert "| ONNX chain, 2x | float32 | 4.00 | 1.60 |" in text
    assert speed_onnx.as_text({}) == "Not measured yet."
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{speed_onnx.MARKS[0]}\nold\n{speed_onnx.MARKS[1]}\nafter\n")
    speed_onnx.write_report(page)
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("\nafter\n")
    assert "\nold\n" not in page.read_text()
