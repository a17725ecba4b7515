"""The figures of docs/speed.md: `mebert bench` on random weights of two sizes and on trained GEEP models.

    python benchmarks/geep.py run --recipes geep --seeds 1 --save models
    python benchmarks/speed.py run --models models      # on an idle machine; about 20 minutes on two cores
    python benchmarks/speed_report.py                   # the part of docs/speed.md

One folder a measurement in benchmarks/results/speed/, and in its folder `shares` where the time of `shrink` goes; what
is there is skipped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "speed"
TRAINED = {"ag_news": "test", "sst2": "val", "imdb": "test", "chnsenticorp": "test"}  # task to split
MAX_LENGTH = {"imdb": "128"}  # as trained; the others: 64

RUNS: dict[str, list[str]] = {
    "minilm": ["--size=minilm", "--lengths=ag_news", "--batch_sizes=[1,32]", "--samples=256", "--rounds=3"],
    "minilm_batches": [
        *("--size=minilm", "--lengths=ag_news", "--batch_sizes=[8,128]", "--samples=1024", "--rounds=3"),
        "--precisions=[bfloat16]",
    ],
    "bert_base": [
        *("--size=bert-base", "--lengths=128", "--pooling=fastbert", "--batch_sizes=[1,32]", "--samples=32"),
        *("--rounds=3", "--precisions=[float32,bfloat16]"),
    ],
}


WHOLE = ["--thorough", "--speedups=[2,3]"]  # at equal FLOPs, whatever a model's default operating point is
SHARES = ["--engines=[shrink]", "--baselines=[unsorted]", "--rounds=1"]


def arguments(models: Path | None) -> dict[str, list[str]]:
    """Name of a measurement to the arguments of `mebert bench`."""
    found = dict(RUNS)
    for task, split in TRAINED.items():
        folder = None if models is None else models / f"{task}_geep_1"
        if folder is not None and folder.is_dir():
            found[f"geep_{task}"] = [
                *(f"--model={folder}", f"--task={task}", f"--split={split}", "--batch_sizes=[1,32,128]"),
                *("--samples=1024", "--rounds=3", "--precisions=[bfloat16]"),
                f"--max_length={MAX_LENGTH.get(task, '64')}",
            ]
    return found


def measure(folder: Path, settings: list[str], threads: int) -> None:
    """Run the bench command, unless its results are there."""
    if (folder / "bench.json").exists():
        return
    command = [sys.executable, "-m", "mebert", "bench", *settings, f"--threads={threads}", f"--out={folder}"]
    print(f"{folder.name}: {' '.join(command[1:])}", flush=True)
    subprocess.run(command, check=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run",))
    parser.add_argument("--models", type=Path, help="where `geep.py run --save` has put its models")
    parser.add_argument("--only", nargs="+", help="names of measurements")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for name, settings in arguments(args.models).items():
        if args.only and name not in args.only:
            continue
        measure(RESULTS / name, [*settings, *WHOLE, "--breakdown=false"], args.threads)
        measure(RESULTS / name / "shares", [*settings, *WHOLE, *SHARES], args.threads)


if __name__ == "__main__":
    main()
