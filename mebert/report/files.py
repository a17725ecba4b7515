"""The figures of an evaluation for the loggers, and the files that it leaves in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mebert.metrics.record_files import save_record
from mebert.report.evaluation import Evaluation
from mebert.report.plots import save_curve
from mebert.storage.atomic import write_rows, write_text
from mebert.storage.run_folder import run_folder
from mebert.storage.thresholds import threshold_text

if TYPE_CHECKING:
    import lightning as L

    from mebert.metrics.curve import ExitRecord
    from mebert.modules import MultiExitModule

CURVE_COLUMNS = ["policy", "threshold", "target", "metric", "speedup_layers", "speedup_flops", "speedup_wall"]


def log_scalars(trainer: L.Trainer, module: MultiExitModule, evaluation: Evaluation) -> None:
    """Log `test/edr_2x/acc`, `.../speedup_layers`, `.../speedup_flops`, `.../speedup_wall`; called on every rank."""
    scalars = {f"{evaluation.split}/auc_{name}": evaluation.area(name) for name in evaluation.curves}
    scalars |= {f"{evaluation.split}/elue_{name}": evaluation.elue(ps) for name, ps in evaluation.curves.items()}
    wall = {}
    for name, points in evaluation.points.items():
        for point in points:
            prefix = f"{evaluation.split}/{name}_{point.target:g}x"
            scalars[f"{prefix}/{evaluation.metric}"] = point.metric
            for figure in ("speedup_layers", "speedup_flops", "agreement"):
                if (value := getattr(point, figure)) is not None:
                    scalars[f"{prefix}/{figure}"] = value
            if point.speedup_wall is not None:
                wall[f"{prefix}/speedup_wall"] = point.speedup_wall
    module.log_dict(scalars, sync_dist=True)
    if wall:  # known to rank 0 alone
        for logger in trainer.loggers:
            logger.log_metrics(wall, step=trainer.global_step)


def write_files(
    trainer: L.Trainer, module: MultiExitModule, record: ExitRecord, evaluation: Evaluation, suffix: str
) -> None:
    """Write the evaluation and the recorded pass, with which runs are compared row by row; not in a `fast_dev_run`.

    `suffix` comes before the files' extensions, where a run evaluates several splits.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    folder = run_folder(trainer)
    title = "accuracy against speed-up"  # no name of a run, which may be a file's: `push` publishes the picture
    write_evaluation(evaluation, folder, title, suffix, checkpoint=str(trainer.ckpt_path or ""))
    about = {
        "split": evaluation.split,
        "metric": evaluation.metric,
        "exit_layers": evaluation.exit_layers,
        "num_labels": module.model.num_labels,
        "label_names": module.model.label_names,
        "policy": module.policy.name,
        "threshold": module.policy.threshold,
        "thresholds": module.operating_points,
    }
    save_record(record, folder / f"outputs{suffix}.safetensors", about)


def write_evaluation(evaluation: Evaluation, folder: Path, title: str, suffix: str = "", **extra: Any) -> None:
    """Write `evaluation.json` (with `extra` plain values), `curve.csv` and `curve.png`; `suffix` as `write_files`."""
    text = json.dumps({**extra, **evaluation.as_dict()}, indent=2)
    write_text(text + "\n", folder / f"evaluation{suffix}.json")
    compared = [result.curve for name, result in evaluation.policies.items() if name not in evaluation.curves]
    parts = [evaluation.fixed, *evaluation.curves.values(), *compared, *evaluation.points.values()]
    header = [evaluation.metric if column == "metric" else column for column in CURVE_COLUMNS]
    rows = ([_cell(point, column) for column in CURVE_COLUMNS] for points in parts for point in points)
    write_rows([header, *rows], folder / f"curve{suffix}.csv")
    save_curve(evaluation, folder / f"curve{suffix}.png", title)


def _cell(point: Any, column: str) -> Any:
    value = getattr(point, column)
    return threshold_text(value, 17) if isinstance(value, tuple) else value
