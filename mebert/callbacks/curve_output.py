"""What a test leaves of its evaluation: scalars in the loggers, files in the run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mebert.record_files import save_record
from mebert.report.files import write_evaluation
from mebert.report.run_folder import run_folder

if TYPE_CHECKING:
    import lightning as L

    from mebert.curve import ExitRecord
    from mebert.modules import MultiExitModule
    from mebert.report.evaluation import Evaluation

__all__ = ["log_scalars", "write_files"]


def log_scalars(trainer: L.Trainer, module: MultiExitModule, evaluation: Evaluation) -> None:
    """`test/edr_2x/acc`, `.../speedup_layers`, `.../speedup_flops`, `.../speedup_wall`; called on every rank."""
    scalars = {f"{evaluation.split}/auc_{name}": evaluation.area(name) for name in evaluation.curves}
    scalars |= {f"{evaluation.split}/elue_{name}": evaluation.elue(ps) for name, ps in evaluation.curves.items()}
    wall = {}
    for name, points in evaluation.points.items():
        for point in points:
            prefix = f"{evaluation.split}/{name}_{point.target:g}x"
            scalars[f"{prefix}/{evaluation.metric}"] = point.metric
            scalars[f"{prefix}/speedup_layers"] = point.speedup_layers
            scalars[f"{prefix}/speedup_flops"] = point.speedup_flops
            if point.agreement is not None:
                scalars[f"{prefix}/agreement"] = point.agreement
            if point.speedup_wall is not None:
                wall[f"{prefix}/speedup_wall"] = point.speedup_wall
    module.log_dict(scalars, sync_dist=True)
    if wall:  # known to rank 0 alone
        for logger in trainer.loggers:
            logger.log_metrics(wall, step=trainer.global_step)


def write_files(
    trainer: L.Trainer, module: MultiExitModule, record: ExitRecord, evaluation: Evaluation, suffix: str
) -> None:
    """The evaluation, and the recorded pass, so that runs can be compared row by row later.

    Args:
        trainer: Says which folder.
        module: Its policy and thresholds are written beside the pass.
        record: The pass.
        evaluation: Of the pass.
        suffix: Put before the files' extensions, where a run evaluates several splits.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    folder = run_folder(trainer)
    title = f"{folder.parent.name}: accuracy against speed-up"  # runs/<experiment>/<version>
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
