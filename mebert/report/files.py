"""The files that an evaluation leaves in the run's folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from mebert.report.evaluation import Evaluation
from mebert.report.plots import save_curve

__all__ = ["write_evaluation"]

CURVE_COLUMNS = ["policy", "threshold", "target", "metric", "speedup_layers", "speedup_flops", "speedup_wall"]


def write_evaluation(evaluation: Evaluation, folder: Path, title: str, suffix: str = "", **extra: Any) -> None:
    """Write `evaluation.json`, `curve.csv` and `curve.png`.

    Args:
        evaluation: What to write.
        folder: Made if it is missing.
        title: Title of the picture.
        suffix: Put before the files' extensions, where a run evaluates several splits.
        extra: Further plain values for the JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**extra, **evaluation.as_dict()}, indent=2)
    (folder / f"evaluation{suffix}.json").write_text(text + "\n", encoding="utf-8")
    with (folder / f"curve{suffix}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*CURVE_COLUMNS[:3], evaluation.metric, *CURVE_COLUMNS[4:]])
        every = [*evaluation.fixed, *(p for ps in evaluation.curves.values() for p in ps)]
        every += [p for name, r in evaluation.policies.items() if name not in evaluation.curves for p in r.curve]
        every += [p for ps in evaluation.points.values() for p in ps]
        for point in every:
            values = [getattr(point, column) for column in CURVE_COLUMNS]
            writer.writerow(["" if value is None else value for value in values])
    save_curve(evaluation, folder / f"curve{suffix}.png", title)
