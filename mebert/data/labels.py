"""Labels as the user wrote them, turned into class numbers or numbers to be estimated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mebert.data.label_names import (
    LIST_OF_LABELS,
    UNLABELLED,
    folded,
    is_missing,
    is_number,
    label_text,
    may_be_positions,
    option,
    separator_option,
)
from mebert.errors import UserError


def encode_labels(
    values: Sequence[object] | np.ndarray,
    label_names: Sequence[str],
    where: Callable[[int], str],
    *,
    regression: bool = False,
    negative_is_hidden: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a label column into labels (N,), int64 or in a regression float32, and whether each row has one (N,).

    Texts (own files) are names. A number that is written there is the position of a name only where no name holds a
    number, and -1 stands for no label only beside words. Numbers (columns of the Hub) are class numbers from 0, -1 for
    none, or names where these are numbers. In a regression values are numbers to be estimated (with
    `negative_is_hidden` a negative one stands for no label). A missing value has no label.

    `where` says where row i is; the message for a label that is not one of the classes, or not a number, names the row
    and the value.
    """
    if regression:
        return _encode_numbers(values, where, negative_is_hidden)
    by_name = {label_text(name): number for number, name in enumerate(label_names)}
    positions = {str(number): number for number in range(len(label_names))}
    in_numbers = by_name if any(map(is_number, label_names)) else positions
    in_texts = (positions if may_be_positions(label_names) else {}) | by_name
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu" and in_numbers.items() <= positions.items():
        wrong = np.flatnonzero((values < UNLABELLED) | (values >= len(label_names)))
        if wrong.size:
            raise _outside(values[wrong[0]], label_names, where(int(wrong[0])))
        return values.astype(np.int64), values != UNLABELLED
    labels = np.full(len(values), UNLABELLED, dtype=np.int64)
    no_label, hidden = str(UNLABELLED), None
    for row, value in enumerate(values):
        if is_missing(value):
            continue
        text, is_text = label_text(value), isinstance(value, str)
        number = (in_texts if is_text else in_numbers).get(text)
        if number is not None:
            labels[row] = number
        elif text != no_label:
            raise _outside(value, label_names, where(row))
        elif is_text and hidden is None:
            hidden = row
    if hidden is not None and any(is_number(v) and label_text(v) != no_label for v in values if isinstance(v, str)):
        raise UserError(
            f"{where(hidden)}: label '-1' beside other numbers: if it stands for no label, leave it empty there; "
            f"if it is a class, train with the names of all of them (such as {option([no_label, '0', '1'])})"
        )
    return labels, labels != UNLABELLED


def encode_label_sets(
    values: Sequence[Sequence[str] | None], label_names: Sequence[str], where: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Turn sets of labels into (N, C) int64 of 0 and 1, and whether each row is labelled (N,).

    None is a row that is not labelled, [] one with none of the labels.
    Labels are names, or positions of them where no name holds a number; `where` says where row i is.
    """
    positions = {str(number): number for number in range(len(label_names))} if may_be_positions(label_names) else {}
    numbers = positions | {label_text(name): number for number, name in enumerate(label_names)}
    labels = np.zeros((len(values), len(label_names)), dtype=np.int64)
    for row, names in enumerate(values):
        for name in names or ():
            if (number := numbers.get(label_text(name))) is None:
                raise _outside(name, label_names, where(row), one_of_several=True)
            labels[row, number] = 1
    return labels, np.array([names is not None for names in values], dtype=bool)


def _outside(value: object, label_names: Sequence[str], where: str, one_of_several: bool = False) -> UserError:
    names = ", ".join(label_names[:10]) + (", ..." if len(label_names) > 10 else "")
    text = str(value)[:60]
    hint = "correct it, or leave it empty"
    if near := [name for name in label_names if folded(name) == folded(text)]:
        hint = f"write {near[0]!r}, or leave it empty"
    elif LIST_OF_LABELS.search(text):
        hint = f"several labels a row need a model trained with {separator_option(text)}; correct it, or leave it empty"
    by_position = f" (0..{len(label_names) - 1})" * may_be_positions(label_names)
    if one_of_several:
        hint = f"write {near[0]!r}" if near else "correct it, or take it out"
        return UserError(f"{where}: label {text!r} is none of the labels {names}{by_position}; {hint}")
    return UserError(
        f"{where}: label {text!r} is none of the classes {names}{by_position}; {hint} for a row without one"
    )


def _encode_numbers(
    values: Sequence[object] | np.ndarray, where: Callable[[int], str], negative_is_hidden: bool
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.full(len(values), np.nan, dtype=np.float32)
    for row, value in enumerate(values):
        if is_missing(value):
            continue
        try:
            labels[row] = float(str(value))
        except ValueError:
            labels[row] = np.inf
        if np.isinf(labels[row]):
            raise UserError(f"{where(row)}: label {str(value)[:60]!r} is not a number; correct it or leave it empty")
    labelled = ~np.isnan(labels)
    if negative_is_hidden:
        labelled &= ~(labels < 0)
    return labels, labelled
