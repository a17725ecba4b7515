"""The last words of a fit: what was saved where, and the exact commands that come next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from mebert.report.tables import print_pairs

__all__ = ["print_saved"]


def print_saved(folder: Path, best: Path, datamodule: Any, module: Any) -> None:
    """Print both tables.

    Args:
        folder: The run's.
        best: Its best checkpoint.
        datamodule: Own texts can be predicted where it has a `predict_file`.
        module: Holds the operating points that can be asked for.
    """
    names = {
        "config": "config.yaml",
        "metrics": "metrics.csv",
        "checkpoints": "checkpoints",
        "curve": "curve.png",
        "evaluation": "evaluation.json",
        "model folder": "model",
    }
    print_pairs("Saved:", {k: folder / v for k, v in names.items() if (folder / v).exists()})
    run = f"python -m mebert {{}} --config {shlex.quote(str(folder / 'config.yaml'))}"
    at_best = f"--ckpt_path {shlex.quote(str(best))}"
    own_file = " --data.predict_file my.csv" if hasattr(datamodule, "predict_file") else ""
    stored = sorted(module.operating_points.get(module.policy.name, {}))
    speedup = f" --speedup {stored[-1]:g}" if stored else ""
    last = shlex.quote(str(best.with_name("last.ckpt")))
    print_pairs(
        "Next:",
        {
            "predict": f"{run.format('predict')} {at_best}{own_file} --out out.csv",
            "faster": f"{run.format('predict')} {at_best}{own_file} --out fast.csv{speedup}",
            "test again": f"{run.format('test')} {at_best}",
            "train on": f"{run.format('fit')} --ckpt_path {last} --trainer.max_epochs <more>",
        },
    )
