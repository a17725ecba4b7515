"""An evaluation as tables for Weights & Biases: plain columns and rows, without W&B itself.

Shapes: E exits, N samples, C classes. Exits count from 1. Texts stay plain strings, which W&B shows as
they are: no cell is markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mebert.metrics.curve import ExitRecord
from mebert.metrics.ranking import RANKING_METRICS, ranking_scores
from mebert.report.evaluation import Evaluation
from mebert.report.reliability import reliability_of

__all__ = ["Table", "evaluation_tables", "question_ranks", "sample_table", "spread_rows"]


@dataclass
class Table:
    """Columns and rows.

    Attributes:
        columns: Names, all different.
        rows: Values, one for each column.
    """

    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)


def evaluation_tables(evaluation: Evaluation, record: ExitRecord) -> dict[str, Table]:
    """By name: `exits`, `operating_points`, `curve`, `policies`, `exit_histogram`, and in a regression `errors`.

    Figures of the main metric have the ends of their 95 % bootstrap interval beside them where they are worked out.

    Args:
        evaluation: Of the pass.
        record: The pass.
    """
    tables = {
        "exits": _exits(evaluation, record),
        "operating_points": _operating_points(evaluation),
        "curve": _curve(evaluation),
    }
    if evaluation.policies:
        tables["policies"] = _policies(evaluation)
    if evaluation.current is not None and evaluation.current.shares is not None:
        shares = enumerate(evaluation.current.shares)
        rows = [[f"exit {e + 1:02d}", evaluation.exit_layers[e], share] for e, share in shares]
        tables["exit_histogram"] = Table(["exit", "layer", "share of samples"], rows)
    if record.logits.shape[-1] == 1:
        tables["errors"] = _errors(evaluation, record)
    return tables


def _exits(evaluation: Evaluation, record: ExitRecord) -> Table:
    metrics = evaluation.exit_metrics
    columns = ["exit", "layer", *metrics, "interval_low", "interval_high", "gflops", "speedup_layers", "speedup_flops"]
    known = reliability_of(record, evaluation.metric, [point.exits for point in evaluation.fixed])
    rows = [
        [
            e + 1,
            evaluation.exit_layers[e],
            *(values[e] for values in metrics.values()),
            *_ends(known[e].interval),
            evaluation.gflops[e],
            point.speedup_layers,
            point.speedup_flops,
        ]
        for e, point in enumerate(evaluation.fixed)
    ]
    return Table(columns, rows)


def _operating_points(evaluation: Evaluation) -> Table:
    speedups = ["speedup_layers", "speedup_flops", "speedup_wall"]
    names = [
        "policy",
        "target",
        "threshold",
        evaluation.metric,
        "interval_low",
        "interval_high",
        "agreement",
        *speedups,
    ]
    points = [point for found in evaluation.points.values() for point in found]
    rows = [
        [p.policy, p.target, p.threshold, p.metric, *_ends(p.interval), p.agreement, *(getattr(p, s) for s in speedups)]
        for p in points
    ]
    return Table(names, rows)


def _curve(evaluation: Evaluation) -> Table:
    columns = ["policy", "threshold", evaluation.metric, "speedup_layers", "speedup_flops"]
    points = [point for found in evaluation.curves.values() for point in found]
    return Table(columns, [[p.policy, p.threshold, p.metric, p.speedup_layers, p.speedup_flops] for p in points])


def _policies(evaluation: Evaluation) -> Table:
    columns = ["policy", "speedup_layers", evaluation.metric, "interval_low", "interval_high", "agreement", "area"]
    rows = []
    for name, result in evaluation.policies.items():
        for target, value in result.at.items():
            known = result.reliability.get(target, {})
            rows.append([name, target, value, *_ends(known.get("interval")), known.get("agreement"), result.area])
    return Table(columns, rows)


def _errors(evaluation: Evaluation, record: ExitRecord) -> Table:
    """How far the estimates of each exit are from the labels, in the labels' unit."""
    wrong = record.logits.squeeze(-1).double() - record.labels.double()  # (E, N)
    figures = zip(
        wrong.abs().mean(1).tolist(), wrong.square().mean(1).sqrt().tolist(), wrong.mean(1).tolist(), strict=True
    )
    rows = [[e + 1, evaluation.exit_layers[e], *found] for e, found in enumerate(figures)]
    return Table(["exit", "layer", "mean absolute error", "root mean squared error", "mean error"], rows)


def spread_rows(samples: int, at_most: int) -> list[int]:
    """Places of at most so many rows, evenly spread over `samples` of them: the same for every run on a split.

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
    """Samples with their label, the exit that each took, and the answer and confidence of every exit.

    In a regression answers are numbers without confidence, and `error` takes the place of `right`. Where answers are
    ranked, each row has the number of its question and its rank within it at the exit taken, 1 the best.

    Args:
        evaluation: Of the pass; samples leave at its `current` point, or at the last exit where it has none.
        record: The whole pass, since ranks are among all answers.
        rows: Places in it of the n rows to show.
        texts: Column name to their texts (n,).
        label_names: Names of the C classes.
    """
    regression = record.logits.shape[-1] == 1
    last = torch.full_like(record.index, record.num_exits - 1)
    taken = last if evaluation.current is None else evaluation.current.exits
    shown, exits = record.take(torch.tensor(rows, dtype=torch.long)), taken[rows]
    answers = shown.logits.squeeze(-1) if regression else shown.logits.argmax(-1)  # (E, n)
    final = answers[exits, torch.arange(len(rows))]

    def words(values: Tensor) -> list[Any]:
        numbers: list[Any] = values.tolist()
        return (
            [float(value) for value in numbers] if regression else [str(label_names[int(value)]) for value in numbers]
        )

    columns: dict[str, Sequence[Any]] = {
        "index": shown.index.tolist(),
        "label": words(shown.labels),
        "prediction": words(final),
        "exit_taken": (exits + 1).tolist(),
        "layer": [evaluation.exit_layers[exit_index] for exit_index in exits.tolist()],
    }
    if regression:
        columns["error"] = (final - shown.labels).tolist()
    else:
        columns["right"] = (final == shown.labels).tolist()
    if record.queries is not None and evaluation.metric in RANKING_METRICS:
        ranks = question_ranks(record.logits_at(taken), record.queries)
        columns["question_number"] = [None if query < 0 else query for query in record.queries[rows].tolist()]
        columns["rank"] = [ranks[row] for row in rows]
    confidences = shown.logits.softmax(-1).amax(-1)
    for e in range(record.num_exits):
        columns[f"exit_{e + 1:02d}"] = words(answers[e])
        if not regression:
            columns[f"exit_{e + 1:02d}_confidence"] = confidences[e].tolist()
    named = {name if name not in columns else f"{name} (text)": list(values) for name, values in texts.items()}
    first, *others = columns
    ordered = {first: columns[first], **named, **{name: columns[name] for name in others}}
    return Table(list(ordered), [list(row) for row in zip(*ordered.values(), strict=True)])


def question_ranks(logits: Tensor, queries: Tensor) -> list[int | None]:
    """The rank of each answer within its question, 1 the best; None for rows that are not ranked.

    Args:
        logits: At the exit taken, (N, C).
        queries: Question of each row (N,), -1 for those that are not ranked.
    """
    scores = ranking_scores(logits)
    order = sorted(range(len(scores)), key=lambda row: (int(queries[row]), -float(scores[row]), row))
    ranks: list[int | None] = [None] * len(scores)
    before, rank = -1, 0
    for row in order:
        query = int(queries[row])
        if query < 0:
            continue
        rank = rank + 1 if query == before else 1
        before, ranks[row] = query, rank
    return ranks


def _ends(interval: Sequence[float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (float(interval[0]), float(interval[1]))
