"""Seconds from a CSV of 2,000 rows to answers, by the two commands that a new user types after the installation.

    python benchmarks/first_run.py            # writes runs/first_run/, prints the seconds of each command

The rows are SST-2's, from the Hub, as is the encoder (HF_ENDPOINT decides which Hub). Each command is a process of its
own, start-up included; CPU seconds are those of all threads, which hardly depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS, NEW = 2000, 100
LABELS = ("negative", "positive")


def write_files(folder: Path) -> None:
    """`reviews.csv` with labels and `new.csv` without, other rows."""
    from mebert.data.tasks import find_task, load_task_splits

    train = load_task_splits(find_task("sst2"), ("train",), None)["train"].shuffle(seed=0)
    for name, start, stop in (("reviews.csv", 0, ROWS), ("new.csv", ROWS, ROWS + NEW)):
        rows = train.select(range(start, stop))
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["review", "sentiment"] if name == "reviews.csv" else ["review"])
            for row in rows:
                writer.writerow([row["sentence"], *([LABELS[row["label"]]] if name == "reviews.csv" else [])])


def timed(folder: Path, *words: str) -> None:
    """Run a command and print how long it took."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "mebert", *words], cwd=folder, check=True, env=environment)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"\n{seconds:.0f} s, {spent:.0f} s of CPU: python -m mebert {' '.join(words)}\n", flush=True)


def main() -> None:
    """Write the files and time both commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "first_run", help="a new folder")
    folder = parser.parse_args().out
    folder.mkdir(parents=True)
    write_files(folder)
    timed(folder, "fit", "reviews.csv")
    timed(folder, "predict", "runs/reviews/version_0", "new.csv", "--out", "answers.csv")


if __name__ == "__main__":
    main()
