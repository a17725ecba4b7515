"""Refuses settings of a data module that cannot work, before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mebert.data.tasks import METRICS, RANKING, Task
from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError

__all__ = [
    "check_columns",
    "check_metrics",
    "check_queries",
    "check_ranges",
    "check_rankable",
    "check_sizes",
    "check_source",
]


def check_sizes(**sizes: int | None) -> None:
    """Each of the named sizes is None or at least 1."""
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}; it must be at least 1")


def check_ranges(max_length: int, holdout: float, num_workers: int, seed: int) -> None:
    """Numbers are within their ranges; 8 tokens hold the special ones and some text."""
    if max_length < 8:
        raise UserError(f"max_length is {max_length} tokens; it must be at least 8")
    if not 0.0 <= holdout < 1.0:
        raise UserError(f"holdout is {holdout}; it is a share of the training rows, from 0 to below 1")
    for name, value in {"num_workers": num_workers, "seed": seed}.items():
        if value < 0:
            raise UserError(f"{name} is {value}; it must be at least 0")


def check_source(
    task: str | None, files: Sequence[str], own_labels: bool, query_column: str | None, predict_split: str | None
) -> None:
    """The rows come from one place only.

    Args:
        task: Name of the task, if any.
        files: Settings that name own training, validation or test files.
        own_labels: Own labels or a regression were asked for.
        query_column: Column of the question in own files.
        predict_split: A split of the task.
    """
    if task is not None and files:
        raise UserError(f"task ({task}) and {files[0]} were both given; give one of them")
    if task is not None and own_labels:
        raise UserError(f"labels and regression are for own files; task {task!r} has its own labels")
    if task is not None and query_column is not None:
        raise UserError(f"query_column ({query_column}) is for own files; task {task!r} says itself what is ranked")
    if task is None and predict_split is not None:
        raise UserError(f"predict_split ({predict_split}) is for a task; give predict_file for own rows")


def check_metrics(names: Sequence[str] | None) -> None:
    """All metrics are known."""
    if unknown := [name for name in names or () if name not in METRICS]:
        raise UserError(f"unknown metric {unknown[0]!r} in metrics; known: {', '.join(METRICS)}")


def check_columns(given: tuple[str, ...], own: tuple[str, ...], task: Task | None) -> tuple[str, ...]:
    """Return the text columns of a file to predict: those given, or those of the task."""
    if task is None or not given:
        return own
    if len(given) != len(own):
        names = "text_column" if len(own) == 1 else "text_column and text_pair_column"
        raise UserError(f"task {task.name!r} reads {len(own)} text(s) a row: give {names} for predict_file, or neither")
    return given


def check_queries(query_column: str | None, num_labels: int, metrics: Sequence[str]) -> None:
    """Answers are ranked within questions only where the data says which belong together, and which are right.

    Args:
        query_column: Column of the question's id, if any.
        num_labels: Number of classes; 1 in a regression.
        metrics: Names of the metrics in use.
    """
    if query_column is not None and num_labels > 2:
        raise UserError(
            f"query_column ({query_column}) needs two classes, the second one 'relevant', or a regression;"
            f" there are {num_labels} classes"
        )
    if query_column is None and (ranked := [name for name in metrics if name in RANKING]):
        raise UserError(f"the metric {ranked[0]!r} ranks answers to a question: give query_column")


def check_rankable(split: TokenisedSplit, metrics: Sequence[str], origin: str) -> None:
    """A split by which a ranking is measured has a question with a right and a wrong answer.

    Args:
        split: The split.
        metrics: Names of the metrics in use.
        origin: The file or split in words.
    """
    ranked = any(name in RANKING for name in metrics)
    if ranked and split.queries is not None and not np.any(split.queries >= 0):
        raise UserError(
            f"{origin}: none of its questions ({len(split)} rows) has both a right and a wrong answer, so that no"
            " ranking can be measured; give more rows"
        )
