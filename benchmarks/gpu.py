"""What a GPU changes: engines, compilation, CUDA graphs, a training step, and a run that is stopped and resumed.

    python benchmarks/gpu.py                              # one GPU, no network; under eight minutes
    python benchmarks/gpu.py --device cpu --tiny --out /tmp/gpu.json    # whether the script works: no figures
    python benchmarks/gpu_report.py                       # the table of docs/speed.md from the stored figures, again

Weights are random and texts are the built-in task's or random tokens, so that nothing is downloaded. Each part is a
process of its own with a limit in seconds: it is ended there, and left out where less is left of all the time; both
are said in the table. Figures go to benchmarks/results/gpu.json after each part, those of a GPU into docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gpu_parts import run_part
from gpu_report import RESULTS, as_text, write_page

TOTAL = 460.0  # seconds of all parts
SLACK = 10  # times as long with --tiny, which is for machines of any kind
SIZES = ("minilm", "bert-base")
LIMITS = {
    "fit": 100.0,
    **{f"engines {size}": 60.0 for size in SIZES},
    **{f"engines {size} compiled": 75.0 for size in SIZES},
    **{f"graphs {size}": 25.0 for size in SIZES},
    **{f"training {size}": 20.0 for size in SIZES},
}


def in_process(name: str, device: str, tiny: bool, limit: float) -> dict[str, Any]:
    """What a part finds, in a process of its own that is ended at its limit; `skipped` says what went wrong."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file, tempfile.TemporaryFile("w+") as errors:
        words = [sys.executable, __file__, "--device", device, "--part", name, "--limit", str(limit)]
        words += ["--out", file.name, *["--tiny"] * tiny]
        child = subprocess.Popen(words, start_new_session=True, stderr=errors)
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return {"skipped": f"not done within its {limit:g} s"}
        if status:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or [f"status {status}"])[-1]
            return {"skipped": f"failed: {last[:200]}"}
        found: dict[str, Any] = json.loads(Path(file.name).read_text(encoding="utf-8"))
        return found


def measure_all(device: str, tiny: bool, out: Path, parts: list[str], total: float) -> dict[str, Any]:
    """Each part that fits into what is left of the time; the file is written after each."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU is here (PyTorch finds no CUDA); --device cpu --tiny checks the script without one")
    machine = torch.cuda.get_device_name() if device == "cuda" else device
    found: dict[str, Any] = {"machine": machine, "torch": torch.__version__, "tiny": tiny, "parts": {}}
    end = time.perf_counter() + total * (SLACK if tiny else 1)
    for name in parts:
        began, limit = time.perf_counter(), LIMITS[name] * (SLACK if tiny else 1)
        left = end - began
        if limit > left:
            result = {"skipped": f"left out: it may take {limit:g} s, and {left:.0f} s were left"}
        else:
            result = in_process(name, device, tiny, limit)
        found["parts"][name] = {**result, "took": time.perf_counter() - began}
        print(f"{name}: {result.get('skipped') or 'done'}, {time.perf_counter() - began:.0f} s", flush=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few texts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go")
    parser.add_argument("--parts", nargs="+", choices=list(LIMITS), default=list(LIMITS), metavar="PART")
    parser.add_argument("--total", type=float, default=TOTAL, help="seconds for all parts")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        given.out.write_text(json.dumps(run_part(given.part, given.device, given.tiny, given.limit)), encoding="utf-8")
        return
    found = measure_all(given.device, given.tiny, given.out, given.parts, given.total)
    print(as_text(found))
    if given.device == "cuda" and not given.tiny:
        write_page(found)


if __name__ == "__main__":
    main()
