"""The report of a test for Weights & Biases: tables, charts, samples, and the operating point as a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger
from typing_extensions import override

from mebert.callbacks.curve import AccuracySpeedCurve
from mebert.errors import check_range
from mebert.metrics.task import predictions_of
from mebert.report.wandb_tables import Table, evaluation_tables, sample_table, spread_rows

if TYPE_CHECKING:
    from mebert.metrics.curve import ExitRecord
    from mebert.modules import MultiExitModule
    from mebert.report.evaluation import Evaluation

MOST_CLASSES = 50  # of a confusion matrix: W&B draws at most 10,000 cells


class WandbReport(L.Callback):
    """Sends to Weights & Biases what a test has found; without that logger it does nothing.

    For each test split (`test/...`): the tables `exits`, `operating_points`, `curve`, `policies` and `samples`, the
    charts `accuracy_speed`, `exit_accuracy` and `exit_histogram`; of classes the table `classes` (precision, recall, F1
    and support at full depth and at the operating point) and confusion matrices (`confusion/exit_03` of each exit,
    `confusion/operating_point`), in a regression the table `errors`. Charts of the same name are drawn over each
    other where several runs are selected. It reads what an `AccuracySpeedCurve` among the callbacks, before this one,
    has just worked out: nothing is evaluated twice. Rank 0 sends the rows of all processes.

    With the logger's `log_model`, thresholds and figures of the operating point are sent as an artifact, too.

    Args:
        samples: Test samples, evenly spread over the split, in the table `samples`, with their texts, the prediction
            and confidence of every exit and the exit taken; 0 sends none, so that no text leaves this machine.
    """

    def __init__(self, samples: int = 100) -> None:
        check_range("wandb.samples", samples, 0)
        self.samples = samples

    @override
    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: MultiExitModule) -> None:  # type: ignore[override]
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        curve = next((c for c in trainer.callbacks if isinstance(c, AccuracySpeedCurve)), None)  # type: ignore[attr-defined]
        if not loggers or curve is None or not trainer.is_global_zero:
            return
        for split, (evaluation, record) in curve.tested.items():
            tables = evaluation_tables(evaluation, record)
            if self.samples:
                tables["samples"] = self._samples(trainer, pl_module, split, evaluation, record)
            for logger in loggers:  # W&B objects belong to one run
                content = _tables_and_charts(tables, evaluation)
                if record.logits.shape[-1] > 1 and record.labels.ndim == 1:
                    content |= _confusion(evaluation, record, pl_module.model.label_names)
                logger.log_metrics({f"{split}/{name}": value for name, value in content.items()}, trainer.global_step)
        for logger in loggers:
            if curve.tested and getattr(logger, "log_model", False):
                _send_operating_point(logger, trainer, pl_module, [found for found, _ in curve.tested.values()])

    def _samples(
        self, trainer: L.Trainer, module: MultiExitModule, split: str, evaluation: Evaluation, record: ExitRecord
    ) -> Table:
        data: Any = getattr(trainer, "datamodule", None)
        rows, texts = spread_rows(len(record.index), self.samples), {}
        if hasattr(data, "texts"):
            places = {number: place for place, number in enumerate(data.split(split).index.tolist())}
            texts = data.texts(split, [places[number] for number in record.index[rows].tolist()])
        return sample_table(evaluation, record, rows, texts, module.model.label_names)


def _tables_and_charts(tables: dict[str, Table], evaluation: Evaluation) -> dict[str, Any]:
    import wandb

    def table(name: str) -> Any:
        return wandb.Table(columns=tables[name].columns, data=tables[name].rows, allow_mixed_types=True)

    metric, split = evaluation.metric, evaluation.split
    charts = {name: table(name) for name in tables if name != "exit_histogram"}  # its chart brings it
    charts |= {
        "accuracy_speed": wandb.plot.line(
            table("curve"), "speedup_layers", metric, "policy", f"{split}: {metric} against speed-up by layers"
        ),
        "exit_accuracy": wandb.plot.line(table("exits"), "layer", metric, title=f"{split}: {metric} of every exit"),
    }
    if "exit_histogram" in tables:
        title = f"{split}: where samples leave ({evaluation.policy} at its threshold)"
        charts["exit_histogram"] = wandb.plot.bar(table("exit_histogram"), "exit", "share of samples", title)
    return charts


def _confusion(evaluation: Evaluation, record: ExitRecord, label_names: list[str]) -> dict[str, Any]:
    """A confusion matrix for each exit, and one for the operating point."""
    import wandb

    if len(label_names) > MOST_CLASSES:
        return {}
    labels, names = record.labels.tolist(), [str(name) for name in label_names]
    at = {f"exit_{e + 1:02d}": (f"exit {e + 1}", logits) for e, logits in enumerate(record.logits)}
    if evaluation.current is not None:
        at["operating_point"] = (
            "operating point",
            record.answered_by(evaluation.policy).logits_at(evaluation.current.exits),
        )
    return {
        f"confusion/{key}": wandb.plot.confusion_matrix(
            y_true=labels, preds=predictions_of(logits).tolist(), class_names=names, title=title
        )
        for key, (title, logits) in at.items()
    }


def _send_operating_point(
    logger: Any, trainer: L.Trainer, module: MultiExitModule, evaluations: list[Evaluation]
) -> None:
    """`operating_point.json`: the policy, its stored thresholds, and the test results."""
    import wandb

    run = logger.experiment
    content = {
        "policy": module.policy.spec(),
        "thresholds": module.operating_points,
        "exit_layers": list(module.model.exit_layers),
        "labels": module.model.label_names,
        "checkpoint": str(getattr(trainer, "ckpt_path", None) or ""),
        "tested": {evaluation.split: evaluation.as_dict() for evaluation in evaluations},
    }
    artifact = wandb.Artifact(f"operating-point-{run.id}", type="operating-point")
    with artifact.new_file("operating_point.json", encoding="utf-8") as file:
        json.dump(content, file, indent=2, default=str)
    run.log_artifact(artifact)
