"""torch.compile against mebert's own prepared layers, on a CPU: what it gives at small batches.

    python benchmarks/compiled.py run runs/speed_snli/version_0     # an idle machine with a C++ compiler; five minutes
    python benchmarks/compiled.py report                            # the part of docs/speed.md

The run is that of benchmarks/speed_onnx.py. Both classifiers read the same test rows at full depth and at 2x, in turn
in one process, for each precision and number of threads; compilation is part of the warm-up, which is not counted.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from page import replace_between, table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "compiled"
MARKS = "<!-- compiled: benchmarks/compiled.py writes this -->", "<!-- end of compiled -->"
BATCHES, TEXTS, ROUNDS, THREADS, SPEEDUPS = (1, 8, 32), 128, 5, (1, 2), (1, 2)


def measure(run: Path, precision: Any, threads: int) -> dict[str, Any]:
    """Seconds of each classifier in each round, by batch size and speed-up."""
    import torch

    from mebert import EarlyExitClassifier

    torch.set_num_threads(threads)
    texts = test_texts()
    own, compiled = (
        EarlyExitClassifier.from_pretrained(run, device="cpu", precision=precision, compile=compile)
        for compile in (False, True)
    )
    found: dict[str, Any] = {}
    for batch in BATCHES:
        for speedup in SPEEDUPS:
            kinds = {"own": own, "compiled": compiled}
            seconds: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(ROUNDS + 2):  # of which the first two compile and warm up
                for name, classify in kinds.items():
                    start = time.perf_counter()
                    classify(texts, speedup=speedup, batch_size=batch, progress=False)
                    seconds[name].append(time.perf_counter() - start)
            cell = found[f"{batch}/{speedup}"] = {name: taken[2:] for name, taken in seconds.items()}
            print(precision, threads, batch, speedup, f"{ratio(cell):.2f}", flush=True)
    return {"precision": precision, "threads": threads, "torch": torch.__version__, "cells": found}


def test_texts() -> list[tuple[str, str]]:
    """Some test rows of SNLI."""
    from mebert.data.tasks import find_task, load_task_splits

    rows = load_task_splits(find_task("snli"), ("test",), None)["test"].shuffle(seed=0).select(range(TEXTS))
    return [(row["premise"], row["hypothesis"]) for row in rows]


def ratio(cell: dict[str, Any]) -> float:
    """How many times faster compiled layers are: the median over rounds."""
    return float(statistics.median(a / b for a, b in zip(cell["own"], cell["compiled"], strict=True)))


def as_text(results: list[dict[str, Any]]) -> str:
    """A table of ratios."""
    rows = []
    for found in sorted(results, key=lambda one: (one["threads"], one["precision"])):
        for speedup in SPEEDUPS:
            cells = [found["cells"][f"{batch}/{speedup}"] for batch in BATCHES]
            depth = "full depth" if speedup == 1 else f"{speedup}x"
            rows.append([str(found["threads"]), found["precision"], depth, *(f"{ratio(cell):.2f}" for cell in cells)])
    header = ["threads", "precision", "at", *(f"batch {batch}" for batch in BATCHES)]
    versions = ", ".join(sorted({found["torch"] for found in results}))
    machine = ", ".join(sorted({found["machine"] for found in results}))
    return (
        f"{table(header, rows)}\n\n*Texts per second of compiled layers over those of the prepared ones: above 1, "
        f"compiling is faster. The median of {ROUNDS} rounds in turn on {TEXTS} test rows of SNLI, MiniLM's size, CPU "
        f"({machine}), torch {versions}; `python benchmarks/compiled.py run`.*"
    )


def write_report(page: Path) -> None:
    """Put the table between the marks of docs/speed.md."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    replace_between(page, MARKS, as_text(results))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure a trained run of SNLI")
    run.add_argument("run", type=Path)
    run.add_argument("--one", nargs=2, metavar=("PRECISION", "THREADS"), help="one process of it")
    commands.add_parser("report", help="write the part of docs/speed.md")
    args = parser.parse_args()
    if args.command == "report":
        write_report(ROOT / "docs" / "speed.md")
    elif args.one:
        precision, threads = args.one[0], int(args.one[1])
        found = measure(args.run, precision, threads) | {"machine": platform.machine()}
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{precision}_{threads}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    else:
        from mebert.runtime.precision import pick_precision

        fast = ["bfloat16"] if pick_precision("cpu")[0].startswith("bf16") else []
        for precision in ("float32", *fast):
            for threads in THREADS:
                words = ["run", str(args.run), "--one", precision, str(threads)]
                subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
