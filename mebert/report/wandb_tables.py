"""An evaluation as tables for Weights & Biases: plain columns and rows, without W&B itself.

Exits count from 1. Texts stay plain strings: no cell is markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.curve import ExitRecord
from mebert.metrics.ranking import RANKING_METRICS, ranking_scores
from mebert.metrics.task import same_labels
from mebert.report.evaluation import Evaluation
from mebert.report.reliability import reliability_of

INTERVAL = ["interval_low", "interval_high"]
SPEED = ["speedup_layers_low", "speedup_layers_high"]  # the interval of the speed-up by layers


@dataclass
class Table:
    """Column names, all different, and rows of values."""

    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)


def evaluation_tables(evaluation: Evaluation, record: ExitRecord) -> dict[str, Table]:
    """By name: `exits`, `operating_points`, `curve`, `policies`, `exit_histogram`, and `classes` or `errors`."""
    metric, speedups = evaluation.metric, ["speedup_layers", "speedup_flops", "speedup_wall"]
    tables = {
        "exits": Table(["exit", "layer", *evaluation.exit_metrics, *INTERVAL, "gflops", *speedups[:2]]),
        "operating_points": Table(["policy", "target", "threshold", metric, *INTERVAL, "agreement", *speedups, *SPEED]),
        "curve": Table(["policy", "threshold", metric, *speedups[:2]]),
    }
    known = reliability_of(record, metric, [point.exits for point in evaluation.fixed])
    for row, one in zip(evaluation.exit_rows(), known, strict=True):
        row |= dict(zip(INTERVAL, _ends(one.interval), strict=True))
        tables["exits"].rows.append([row[name] for name in tables["exits"].columns])
    for p in (point for points in evaluation.points.values() for point in points):
        limit = None if isinstance(p.threshold, tuple) else p.threshold  # a column of a table has one type
        chosen = [p.policy, p.target, limit, p.metric, *_ends(p.interval), p.agreement]
        speed = [getattr(p, speedup) for speedup in speedups]
        tables["operating_points"].rows.append([*chosen, *speed, *_ends(p.speedup_interval)])
    for p in (point for points in evaluation.curves.values() for point in points):
        tables["curve"].rows.append([p.policy, p.threshold, p.metric, p.speedup_layers, p.speedup_flops])
    if evaluation.policies:
        tables["policies"] = _policies(evaluation)
    if evaluation.classes:
        tables["classes"] = _classes(evaluation)
    if evaluation.current is not None and evaluation.current.shares is not None:
        shares = zip(evaluation.exit_layers, evaluation.current.shares, strict=True)
        rows = [[f"exit {number:02d}", *row] for number, row in enumerate(shares, start=1)]
        tables["exit_histogram"] = Table(["exit", "layer", "share of samples"], rows)
    if record.logits.shape[-1] == 1:
        wrong = record.logits.squeeze(-1).double() - record.labels.double()  # (E, N), in the labels' unit
        figures = torch.stack([wrong.abs().mean(1), wrong.square().mean(1).sqrt(), wrong.mean(1)], dim=1).tolist()
        rows = [[e + 1, evaluation.exit_layers[e], *found] for e, found in enumerate(figures)]
        columns = ["exit", "layer", "mean absolute error", "root mean squared error", "mean error"]
        tables["errors"] = Table(columns, rows)
    return tables


def _policies(evaluation: Evaluation) -> Table:
    rows = []
    for name, result in evaluation.policies.items():
        for target, value in result.at.items():
            known = result.reliability.get(target, {})
            rows.append([name, target, value, *_ends(known.get("interval")), known.get("agreement"), result.area])
    return Table(["policy", "speedup_layers", evaluation.metric, *INTERVAL, "agreement", "area"], rows)


def _classes(evaluation: Evaluation) -> Table:
    """One row a class and place: at full depth, and at the operating point."""
    figures = ["precision", "recall", "f1", "support"]
    rows = [
        [row.label, place, *(getattr(row, figure) for figure in figures)]
        for place, report in evaluation.classes.items()
        for row in report.classes
    ]
    return Table(["class", "at", *figures], rows)


def spread_rows(samples: int, at_most: int) -> list[int]:
    """At most `at_most` positions, evenly spread over the samples: the same for every run on a split.

    >>> spread_rows(10, 4)
    [0, 3, 6, 9]
    """
    return sorted(set(torch.linspace(0, samples - 1, min(at_most, samples)).round().long().tolist()))


def sample_table(
    evaluation: Evaluation,
    record: ExitRecord,
    rows: Sequence[int],
    texts: Mapping[str, Sequence[str | None]],
    label_names: Sequence[str],
) -> Table:
    """Samples with their label, the exit that each took, and the prediction and confidence of every exit.

    In a regression predictions are numbers without confidence, and `error` takes the place of `right`. Several labels a
    row are one text, parted by commas, and the confidence is that of the least certain label. In a ranking,
    each row has the number of its question and its rank within it at the exit taken, 1 the best. Samples leave at the
    evaluation's `current` point, or at the last exit. `rows` are the n positions in the whole record to show, `texts`
    columns of n texts.
    """
    record = record.answered_by(evaluation.policy)
    regression, several = record.logits.shape[-1] == 1, record.labels.ndim == 2
    last = torch.full_like(record.index, record.num_exits - 1)
    taken = last if evaluation.current is None else evaluation.current.exits
    shown, exits = record.select(torch.tensor(rows, dtype=torch.long)), taken[rows]
    predictions = shown.logits.squeeze(-1) if regression else shown.logits.argmax(-1)  # (E, n)
    final = predictions[exits, torch.arange(len(rows))]

    def named(values: Tensor) -> list[Any]:
        if regression:
            return [float(value) for value in values.tolist()]
        if several:
            return [
                ", ".join(n for n, chosen in zip(label_names, row, strict=True) if chosen) for row in values.tolist()
            ]
        return [str(label_names[int(value)]) for value in values.tolist()]

    columns: dict[str, Sequence[Any]] = {
        "label": named(shown.labels),
        "prediction": named(final),
        "exit_taken": (exits + 1).tolist(),
        "layer": [evaluation.exit_layers[exit_index] for exit_index in exits.tolist()],
    }
    if regression:
        columns["error"] = (final - shown.labels).tolist()
    else:
        columns["right"] = same_labels(final, shown.labels).tolist()
    if record.queries is not None and evaluation.metric in RANKING_METRICS:
        ranks = question_ranks(record.logits_at(taken), record.queries)
        columns["question_number"] = [None if query < 0 else query for query in record.queries[rows].tolist()]
        columns["rank"] = [ranks[row] for row in rows]
    confidences = shown.logits.softmax(-1).amax(-1)
    confidences = confidences.amin(-1) if several else confidences
    for e in range(record.num_exits):
        columns[f"exit_{e + 1:02d}"] = named(predictions[e])
        if not regression:
            columns[f"exit_{e + 1:02d}_confidence"] = confidences[e].tolist()
    taken_names = {"index", *columns}
    own = {f"{name} (text)" if name in taken_names else name: list(values) for name, values in texts.items()}
    columns = {"index": shown.index.tolist(), **own, **columns}
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)])


def question_ranks(logits: Tensor, queries: Tensor) -> list[int | None]:
    """The rank of each row of logits (N, C) within its question, 1 the best; None for rows with a question below 0."""
    order = ranking_scores(logits).argsort(descending=True, stable=True).tolist()
    ranks: list[int | None] = [None] * len(order)
    seen: dict[int, int] = {}
    for row in order:
        query = int(queries[row])
        if query >= 0:
            ranks[row] = seen[query] = seen.get(query, 0) + 1
    return ranks


def _ends(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (float(interval[0]), float(interval[1]))
