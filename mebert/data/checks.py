"""Checks of a data module's settings, made before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mebert.data.tasks import METRICS, RANKING, SEVERAL, Task
from mebert.data.tokenised import TokenisedSplit
from mebert.errors import UserError


def check_source(
    task: str | None, files: Sequence[str], own_labels: bool, query_column: str | None, predict_split: str | None
) -> None:
    """Raise a UserError where settings of a task and of own files are mixed."""
    if task is not None and files:
        raise UserError(f"task ({task}) and {files[0]} were both given; give one of them")
    if task is not None and own_labels:
        raise UserError(f"labels and regression are for own files; task {task!r} has its own labels")
    if task is not None and query_column is not None:
        raise UserError(f"query_column ({query_column}) is for own files; task {task!r} defines what is ranked")
    if task is None and predict_split is not None:
        raise UserError(f"predict_split ({predict_split}) is for a task; give predict_file for own rows")


def check_columns(texts: Sequence[str], label: str | None) -> None:
    """Raise a UserError where one column of own files is to be two things; `label` None: labels are not read."""
    all_names = {"label_column": label, **dict(zip(("text_column", "text_pair_column"), texts, strict=False))}
    named = {name: column for name, column in all_names.items() if column is not None}
    for name, column in list(named.items())[1:]:
        if other := [key for key, value in named.items() if key != name and value == column]:
            raise UserError(f"{other[0]} and {name} both name the column {column!r}; name another one by {name}")


def check_metrics(names: Sequence[str] | None) -> None:
    """Raise a UserError for an unknown metric."""
    if unknown := [name for name in names or () if name not in METRICS]:
        raise UserError(f"unknown metric {unknown[0]!r} in metrics; known: {', '.join(METRICS)}")


def check_several(several: bool, regression: bool, query_column: str | None, metrics: Sequence[str]) -> None:
    """Raise a UserError where rows have several labels and a setting is for one, or the other way round."""
    if several and regression:
        raise UserError("regression is for numbers, and these rows have several labels; leave out one of the two")
    if several and query_column is not None:
        raise UserError(f"query_column ({query_column}) ranks by one label, and these rows have several; leave it out")
    fitting = (*SEVERAL, "acc") if several else [name for name in METRICS if name not in SEVERAL]
    if wrong := [name for name in metrics if name not in fitting]:
        what = "rows of several labels" if several else "rows of one label each"
        raise UserError(f"the metric {wrong[0]!r} is not for {what}; give {', '.join(fitting)}")


def check_queries(query_column: str | None, num_labels: int, metrics: Sequence[str]) -> None:
    """Raise a UserError where answers cannot be ranked: no question column, or more than two classes."""
    if query_column is not None and num_labels > 2:
        raise UserError(
            f"query_column ({query_column}) needs two classes, the second one 'relevant', or a regression;"
            f" there are {num_labels} classes"
        )
    if query_column is None and (ranked := [name for name in metrics if name in RANKING]):
        raise UserError(f"the metric {ranked[0]!r} ranks the documents of a query: give query_column")


def check_rankable(split: TokenisedSplit, metrics: Sequence[str], origin: str) -> None:
    """Raise a UserError where a ranking is to be measured and no query has both a relevant and an irrelevant one."""
    ranked = any(name in RANKING for name in metrics)
    if ranked and split.queries is not None and not np.any(split.queries >= 0):
        raise UserError(
            f"{origin}: no query ({len(split)} rows) has both a relevant and an irrelevant document, so that no ranking"
            " can be measured; give more rows"
        )


def predict_columns(given: tuple[str, ...], own: tuple[str, ...], task: Task | None) -> tuple[str, ...]:
    """Return the text columns of a file to predict: those given, or those of the task, which must be as many."""
    if task is None or not given:
        return own
    if len(given) != len(own):
        names = "text_column" if len(own) == 1 else "text_column and text_pair_column"
        raise UserError(f"task {task.name!r} reads {len(own)} text(s) a row: give {names} for predict_file, or neither")
    return given
