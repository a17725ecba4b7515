"""The command: one pass over the rows, then the metrics at every exit and at the operating point.

Shapes: N rows, E exits.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from mebert.commands.test.command import TestSettings
from mebert.data.loaders import open_split
from mebert.data.model_rows import file_data, run_data
from mebert.errors import UserError
from mebert.inference.classifier import EarlyExitClassifier
from mebert.inference.record import record_rows
from mebert.metrics.curve import replay, speedup_layers
from mebert.metrics.ranking import RANKING_METRICS
from mebert.metrics.task import metric_value
from mebert.report.layout import print_pairs, print_table, report_table
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import find_model
from mebert.storage.stored_weights import trained_folder


def run_test(settings: TestSettings) -> None:
    """Score a model on a file."""
    named = find_model(str(settings.model))
    folder = trained_folder(named)
    classifier = EarlyExitClassifier.from_pretrained(folder, settings.device, settings.precision)
    numbers = settings.threshold, settings.speedup, settings.max_drop
    policy = classifier.choose_policy(settings.policy, *numbers)
    point = classifier.point_of(settings.policy, *numbers)
    model = classifier.model
    trained: Any = ModelSpec.read(folder).columns
    if named.run is not None:
        with suppress(UserError):  # its data is not here: names of columns are found, and the metric is the usual one
            trained = run_data(folder, model)
    length = classifier.text_encoder(settings.max_length).max_length
    columns = settings.text_column, settings.text_pair_column, settings.label_column
    data = file_data(str(settings.file), folder, model, length, *columns, trained)
    rows = open_split(data, "val")
    record = record_rows(model, [policy], rows, data.collate_for(), settings.batch_size)

    usual: list[str] = [str(name) for name in getattr(data, "metrics", ("acc",))]
    metrics = [name for name in getattr(trained, "metrics", usual) if name not in RANKING_METRICS] or usual
    table = report_table(f"Exits, {len(rows):,} rows of {settings.file}", right=["exit", "layer", *metrics])
    layers = model.exit_layers
    for exit, layer in enumerate(layers):
        values = (metric_value(name, record.logits[exit], record.labels) for name in metrics)
        table.add_row(str(exit + 1), str(layer), *(f"{value:.4f}" for value in values))
    print_table(table)
    exits, answered = replay(record.scores[policy.name], policy.threshold), record.answered_by(policy.name)
    reached = {name: metric_value(name, answered.logits_at(exits), record.labels) for name in metrics}
    full = {name: metric_value(name, record.logits[-1], record.labels) for name in metrics}
    print_pairs(
        "Scored:",
        {
            "full depth": ", ".join(f"{name} {value:.4f}" for name, value in full.items()),
            "operating point": str(point),
            "there": ", ".join(f"{name} {value:.4f} ({value - full[name]:+.4f})" for name, value in reached.items())
            + f", {speedup_layers(exits, layers):.2f}x by layers",
        },
    )
