"""`benchmarks/gpu.py` without a GPU: every part on tiny models, and a part that takes too long is left out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
gpu = pytest.importorskip("gpu")
PARTS = ["fit", "engines minilm", "engines minilm compiled", "graphs minilm", "training minilm"]


def test_parts_that_take_too_long_are_left_out_and_said(tmp_path):
    assert sum(gpu.LIMITS.values()) <= gpu.TOTAL < 480
    assert gpu.in_process("graphs minilm", "cpu", True, 0.05) == {"skipped": "not done within its 0.05 s"}
    found = gpu.measure_all("cpu", False, tmp_path / "gpu.json", ["fit"], 1.0)
    assert json.loads((tmp_path / "gpu.json").read_text())["parts"] == found["parts"]
    assert "- fit: left out: it may take 100 s, and 1 s were left" in gpu.as_text(found)


@pytest.mark.slow
def test_every_part_on_a_cpu(tmp_path):
    words = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run([*words, "--parts", *PARTS], cwd=ROOT, capture_output=True, text=True, check=True)
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert not [part["skipped"] for part in parts.values() if "skipped" in part], done.stderr
    assert "stopped after its first epoch" in done.stdout
    for words in ("| minilm | yes | 4 | shrink |", "| minilm | 16 tokens, eager |", "| minilm | ProtoExitModule |"):
        assert words in done.stdout
