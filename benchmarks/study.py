"""Copy the results of a finished study, small enough for the repository.

python -m mebert study --config configs/study/minilm.yaml --jobs 2 --out runs/studies/minilm    # hours
python benchmarks/study.py collect runs/studies/minilm      # into benchmarks/results/study/
python benchmarks/study_report.py                           # docs/results_small.md and its picture
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "study"
CSV_TYPES = {"mean": float, "low": float, "high": float, "deviation": float, "seeds": int, "layers": int}


def collect(study: Path, since: float | None = None, rules: Sequence[str] = ()) -> None:
    """Copy the study's tables, and of every run how each exit rule did.

    Args:
        study: Its folder.
        since: Leave out `rules` of runs that began before this second, when they were others.
        rules: Names of policies.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    cells = []
    for done in sorted(study.glob("*/*/seed_*/done.json")):
        content = json.loads(done.read_text(encoding="utf-8"))
        evaluation = json.loads((done.parent / content["run"] / "evaluation.json").read_text(encoding="utf-8"))
        task, recipe, seed = done.parts[-4], done.parts[-3], int(done.parts[-2].removeprefix("seed_"))
        cells.append(
            {
                "task": task,
                "recipe": recipe,
                "seed": seed,
                "seconds": content["seconds"],
                "rows": evaluation["samples"],
                "metric": evaluation["metric"],
                "exits": [round(row[evaluation["metric"]], 5) for row in evaluation["exits"]],
                "policy": evaluation["policy"],
                "best_policy": evaluation["best_policy"],
                "policies": {
                    name: _rounded(found)
                    for name, found in evaluation["policies"].items()
                    if name not in rules or since is None or done.stat().st_mtime - content["seconds"] > since
                },
            }
        )
    lines = ",\n".join(json.dumps(cell) for cell in cells)
    (RESULTS / "runs.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    for table in study.glob("*.csv"):
        shutil.copy(table, RESULTS / table.name)
    print(f"{len(cells)} runs collected; next: python benchmarks/study_report.py")


def _rounded(found: dict[str, Any]) -> dict[str, Any]:
    def of(value: float | None) -> float | None:
        return None if value is None else round(value, 5)

    at = {speedup: of(value) for speedup, value in found["at"].items()}
    return {"area": of(found["area"]), "val_area": of(found["val_area"]), "at": at}


def _typed(column: str, value: str) -> Any:
    if column not in CSV_TYPES:
        return value
    return CSV_TYPES[column](value) if value else None


def runs() -> list[dict[str, Any]]:
    """Every collected run."""
    found: list[dict[str, Any]] = json.loads((RESULTS / "runs.json").read_text(encoding="utf-8"))
    return found


def tables() -> list[dict[str, Any]]:
    """The rows of all tasks' tables, numbers as numbers."""
    rows = []
    for path in sorted(RESULTS.glob("*.csv")):
        with path.open(encoding="utf-8") as file:
            rows += [{key: _typed(key, value) for key, value in row.items()} for row in csv.DictReader(file)]
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    copying = commands.add_parser("collect")
    copying.add_argument("study", type=Path, help="folder of the study")
    copying.add_argument("--since", type=float, help="leave out --rules of runs that began before this second")
    copying.add_argument("--rules", nargs="*", default=[], help="policies that were others before --since")
    given = parser.parse_args()
    collect(given.study, given.since, given.rules)


if __name__ == "__main__":
    main()
