r"""PyTorch or ONNX Runtime, for which batch: a part of docs/speed.md, measured by `mebert bench` on a trained run.

    python -m mebert fit --config configs/de3/minilm_snli.yaml --experiment speed_snli --trainer.max_epochs 1 \
        --data.max_train_samples 8000 --data.max_eval_samples 2000 --data.batch_size 64 --seed_everything 1
    python benchmarks/speed_onnx.py run runs/speed_snli/version_0    # on an idle machine; eight minutes at most
    python benchmarks/speed_onnx.py report                           # the part of docs/speed.md

All is timed in turn in one process for each number of threads, on the same test rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from page import replace_between, table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "speed_onnx"
MARKS = "<!-- onnx: benchmarks/speed_onnx.py writes this -->", "<!-- end of onnx -->"
THREADS, BATCHES, SPEEDUPS = (1, 2), (1, 8, 32, 128), (2.0, 3.0)
BUDGET = 170  # seconds of each number of threads, beside the start and the export
NAMES = {
    "HF": "Hugging Face",
    "plain": "`plain`",
    "shrink": "`shrink`",
    "ONNX": "ONNX, whole",
    "ONNX chain": "ONNX chain",
}
FULL, EARLY, INT8 = 0.93, 1.85, 5.0  # aims, of ratios of speeds

Row = dict[str, Any]


class Rows:
    """What one number of threads gave."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.rows: list[Row] = content["rows"]
        self.setting: dict[str, Any] = content["setting"]
        self.precisions = list(dict.fromkeys(row["precision"] for row in self.rows))
        self.batches = sorted({row["batch_size"] for row in self.rows})

    def find(self, batch: int, precision: str, name: str, target: float | None) -> Row | None:
        """The row of a variant; `HF` is sorted by length, as all others are."""
        names = [f"{name} sorted", name] if name == "HF" else [name]
        asked = (batch, precision, target)
        for wanted in names:
            for row in self.rows:
                if (row["batch_size"], row["precision"], row["target"]) == asked and row["name"] == wanted:
                    return row
        return None

    def times(self, row: Row | None, base: Row | None) -> float | None:
        """How many times faster a row is than another: the median over rounds of the ratio within a round."""
        if row is None or base is None:
            return None
        return float(median(b / a for a, b in zip(row["seconds"], base["seconds"], strict=True)))

    def against(self, row: Row | None) -> float | None:
        """How many times faster than Hugging Face's float32 at the same batch size."""
        return None if row is None else self.times(row, self.find(row["batch_size"], "float32", "HF", None))

    def table(self) -> str:
        """Samples per second over those of Hugging Face's float32, by batch size."""
        kinds: list[tuple[str, float | None]] = [("HF", None), ("plain", None), *(("shrink", s) for s in SPEEDUPS)]
        kinds += [("ONNX", None), ("ONNX chain", None), *(("ONNX chain", s) for s in SPEEDUPS)]
        rows = []
        for name, target in kinds:
            for precision in self.precisions:
                found = [self.find(batch, precision, name, target) for batch in self.batches]
                if any(found):
                    depth = f", {target:g}x" if target else ", full depth" if name == "ONNX chain" else ""
                    rows.append([NAMES[name] + depth, precision, *map(_number, map(self.against, found))])
        return table(["what", "precision", *(f"batch {batch}" for batch in self.batches)], rows)

    def choices(self) -> list[list[str]]:
        """For each batch size the fastest whole model and the fastest way to leave early, without and with int8."""
        found = []
        for batch in self.batches:
            mine = [row for row in self.rows if row["batch_size"] == batch]
            whole = [row for row in mine if row["target"] is None]
            early = [row for row in mine if row["target"] == SPEEDUPS[0]]
            exact = [[row for row in part if row["precision"] != "int8"] for part in (whole, early)]
            found.append([str(batch), *(self._best(part) for part in (exact[0], whole, exact[1], early))])
        return found

    def _best(self, rows: list[Row]) -> str:
        best = max(rows, key=lambda row: float(row["samples_per_second"]), default=None)
        if best is None:
            return "-"
        name = NAMES[str(best["name"]).removesuffix(" sorted")]
        return f"{name}, {best['precision']} ({_number(self.against(best))})"

    def aims(self) -> list[list[str]]:
        """What was aimed at, and what came of it."""
        found = []
        for precision in ("float32", "int8"):
            for batch in (1, 8):
                whole = self.find(batch, precision, "ONNX", None)
                what = f"chain at full depth over the whole graph, {precision}, batch {batch}"
                found.append(_aim(what, FULL, self.times(self.find(batch, precision, "ONNX chain", None), whole)))
        for precision in ("float32", "int8"):
            row = self.find(1, precision, "ONNX chain", SPEEDUPS[0])
            if row is not None:
                flops = f"{row['speedup_flops']:.2f}x by FLOPs"
                what = f"chain at {flops} over the whole graph, {precision}, batch 1"
                found.append(_aim(what, EARLY, self.times(row, self.find(1, precision, "ONNX", None))))
                if precision == "int8":
                    what = f"chain at {flops} in int8 over Hugging Face in float32, batch 1"
                    found.append(_aim(what, INT8, self.against(row)))
        return found


def _aim(what: str, aim: float, value: float | None) -> list[str]:
    reached = "-" if value is None else "yes" if value >= aim else "no"
    return [what, f"{aim:g}", _number(value), reached]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def load() -> dict[int, Rows]:
    """Threads to what they gave."""
    found = {}
    for threads in THREADS:
        path = RESULTS / f"threads_{threads}" / "bench.json"
        if path.exists():
            found[threads] = Rows(json.loads(path.read_text(encoding="utf-8")))
    return found


def as_text(found: dict[int, Rows]) -> str:
    """A summary, the aims, and the tables."""
    if not found:
        return "Not measured yet."
    one = next(iter(found.values()))
    facts = ", ".join(f"{one.setting[key]}" for key in ("model", "texts", "device", "versions") if key in one.setting)
    parts = [
        f"*{facts}. All numbers are times the samples per second of Hugging Face's model in float32 at the same batch "
        "size, on the same batches sorted by length; 2x and 3x are speed-ups by FLOPs. "
        "Thresholds are chosen on the measured texts: speed, not accuracy, is compared.*",
        "**In two minutes: which backend for which batch.** The fastest that was measured. int8 changes answers, "
        'so the best without it stands beside. `backend="auto"` makes this choice on your machine.',
    ]
    head = ["batch", "whole model, not int8", "whole model", "early exit at 2x, not int8", "early exit at 2x"]
    parts += [f"{_threads(number)}:\n\n{table(head, rows.choices())}" for number, rows in found.items()]
    parts.append("What was aimed at:")
    aims = [[str(number), *row] for number, rows in found.items() for row in rows.aims()]
    parts.append(table(["threads", "ratio of speeds", "aim", "measured", "reached"], aims))
    parts += [f"All of it, {_threads(number).lower()}:\n\n{rows.table()}" for number, rows in found.items()]
    return "\n\n".join(parts)


def _threads(number: int) -> str:
    return "One thread" if number == 1 else f"{number} threads"


def write_report(page: Path) -> None:
    """Put the text between the marks of docs/speed.md."""
    replace_between(page, MARKS, as_text(load()))


def measure(run: Path, budget: float, samples: int) -> None:
    """Run the bench command with each number of threads."""
    from mebert.runtime.precision import pick_precision

    fast = ",bfloat16" if pick_precision("cpu")[0].startswith("bf16") else ""
    for threads in THREADS:
        settings = [
            *(f"--precisions=[float32{fast},int8]", f"--speedups={list(SPEEDUPS)}", "--engines=[shrink,onnx]"),
            *("--baselines=[unsorted,sorted,onnx]", f"--batch_sizes={list(BATCHES)}", f"--samples={samples}"),
            *("--rounds=5", f"--budget={budget:g}", f"--threads={threads}", "--device=cpu"),
            f"--out={RESULTS / f'threads_{threads}'}",
        ]
        command = [sys.executable, "-m", "mebert", "bench", str(run), *settings]
        print(f"{threads} threads: {' '.join(command[1:])}", flush=True)
        subprocess.run(command, check=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure a trained run; an idle machine, eight minutes at most")
    run.add_argument("run", type=Path, help="a trained run of MiniLM's size")
    run.add_argument("--budget", type=float, default=BUDGET, help="seconds for each number of threads")
    run.add_argument("--samples", type=int, default=256, help="test rows")
    commands.add_parser("report", help="write the part of docs/speed.md")
    args = parser.parse_args()
    if args.command == "run":
        measure(args.run, args.budget, args.samples)
    else:
        write_report(ROOT / "docs" / "speed.md")


if __name__ == "__main__":
    main()
