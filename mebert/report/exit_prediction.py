"""How well stored predictors predict the exits of a recorded split, as reports and as a table.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from torch import Tensor

from mebert.exit_predictor.base import ExitPredictor
from mebert.exit_predictor.report import PredictionReport, report
from mebert.metrics.curve import ExitRecord, replay
from mebert.metrics.task import metric_value
from mebert.report.layout import report_table


def prediction_reports(
    record: ExitRecord, predictors: Sequence[ExitPredictor], exit_layers: Sequence[int], metric: str
) -> list[PredictionReport]:
    """A report on each predictor whose policy was recorded."""

    def metric_at(exits: Tensor) -> float:
        return metric_value(metric, record.logits_at(exits), record.labels, record.queries)

    reports = []
    for predictor, predicted in zip(predictors, record.predicted, strict=True):
        origin = predictor.origin
        if origin is None or origin.policy not in record.scores:
            continue
        taken = replay(record.scores[origin.policy], origin.threshold)
        found = report(predicted, taken, exit_layers, metric_at)
        found.origin, found.kind, found.coverage = origin, type(predictor).__name__, predictor.coverage
        reports.append(found)
    return reports


def prediction_table(reports: Sequence[PredictionReport], metric: str, split: str) -> Table:
    """Predicted exits against those that the policy took, one line for each operating point."""
    kinds = ", ".join(sorted({found.kind for found in reports}))
    frequent = ", ".join(f"{found.most_frequent:.1%}" for found in reports)
    columns = ["coverage", "exact", "within 1", "earlier", "later", "speed-up predicted", "policy"]
    with_metric = reports[0].metric_full is not None
    table = report_table(
        f"Predicted exits against those that the policy takes: {kinds} ({split})",
        ["policy"],
        [*columns, *([f"{metric} predicted", "policy", "full"] if with_metric else [])],
        f"Speed-up by layers. Always the exit that most samples take would be exact for {frequent}.",
    )
    for found in reports:
        origin = found.origin
        name = "" if origin is None else f"{origin.policy} {origin.threshold:.4g}"
        if origin is not None and origin.speedup is not None:
            name += f" ({origin.speedup:g}x)"
        metrics = (found.metric_predicted, found.metric_taken, found.metric_full) if with_metric else ()
        table.add_row(
            name,
            "likeliest" if found.coverage is None else f"{found.coverage:.3f}",
            *(f"{share:.1%}" for share in (found.exact, found.within_one, found.under, found.over)),
            *(f"{speedup:.2f}x" for speedup in (found.speedup_predicted, found.speedup_taken)),
            *("" if value is None else f"{value:.4f}" for value in metrics),
        )
    return table
