"""The wall clock of the recommended recipe's models at 2x and 3x by FLOPs: `mebert bench` on their test texts.

    python benchmarks/recipe_clock.py     # on an idle machine, about a minute a task

Reads the models that `recipe.py run --config configs/study/recipe_full.yaml` has left on this machine. Everything is
timed in turn, in one process. One small result a task in benchmarks/results/recipe_clock/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recipe import RESULTS, ROOT, cells
from recipe_paired import RECOMMENDED

FULL = ROOT / "configs" / "study" / "recipe_full.yaml"
SPEEDS, BATCH, SAMPLES = (2.0, 3.0), 32, 512


def measure(cell: Any, threads: int, precision: str) -> dict[str, Any]:
    """One task: the speed at `SPEEDS` over this package's full depth and over Hugging Face's classifier."""
    given = cell.config["data"]["init_args"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mebert", "bench", str(cell.folder / "model"), "--task", given["task"]]
        command += ["--split", "test", "--max_length", str(given["max_length"]), "--batch_sizes", str(BATCH)]
        command += ["--policies", "stacked", "--engines", "refill", "--baselines", "unsorted", "--budget", "90"]
        command += ["--speedups", *(f"{speed:g}" for speed in SPEEDS), "--samples", str(SAMPLES)]
        command += ["--threads", str(threads), "--precisions", precision, "--out", folder]
        subprocess.run(command, check=True)
        found = json.loads((Path(folder) / "bench.json").read_text(encoding="utf-8"))
    rows = {f"{row['target']:g}": row for row in found["rows"] if row["name"] == "refill"}
    about = {"task": cell.task, "batch_size": BATCH, "threads": threads, "precision": precision}
    about |= {"samples": max(row["samples"] for row in rows.values()), "device": found["setting"]["device"]}
    keys = {"over_full_depth": "speedup_wall", "flops": "speedup_flops", "over_hf": "versus_unsorted"}
    return about | {name: {speed: round(row[key], 3) for speed, row in rows.items()} for name, key in keys.items()}


def write_each(
    about: str | None, name: str, measure: Callable[[Any, int, str], dict[str, Any]], arms: Sequence[str]
) -> None:
    """The command line: one result for each task whose models of the arms are on this machine."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="such as task=snli")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="bfloat16")
    settings = parser.parse_args()
    for cell in cells(FULL, [f"recipe={RECOMMENDED}", f"seed={settings.seed}", *settings.only]):
        study = cell.folder.parent.parent
        if all((study / arm / cell.folder.name / "model").exists() for arm in arms):
            path = RESULTS / name / f"{cell.task}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(measure(cell, settings.threads, settings.precision)) + "\n", encoding="utf-8")
            print(path.read_text(encoding="utf-8"), flush=True)


if __name__ == "__main__":
    write_each(__doc__, "recipe_clock", measure, (RECOMMENDED,))
