"""Labels as the user wrote them, turned into class numbers or numbers to be estimated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from mebert.errors import UserError

UNLABELLED = -1

# More distinct values than this are an identifier or a number, not a class.
MAX_INFERRED_CLASSES = 1000


def label_text(value: object) -> str:
    """Return the one spelling of a label: 1, 1.0 and "1" are the same class."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip() == ""


def infer_label_names(values: Sequence[object], where: str) -> list[str]:
    """Return the class names that a label column (N,) uses: 0..C-1 as they count, other values sorted.

    Missing values and -1 have no label. `where` names the file and column, for the message.
    """
    found = {label_text(value) for value in values if not _is_missing(value)} - {str(UNLABELLED)}
    if missing := [text for text in found if text.lower() == "nan"]:
        raise UserError(
            f"{where} holds {missing[0]!r}, which reads like a missing label; leave it empty for a row without one, or "
            "give labels if it is a class"
        )
    if len(found) < 2:
        what = f"only the label {found.pop()!r}" if found else "no labels"
        raise UserError(f"{where} holds {what}; at least two classes are needed (or give labels)")
    numbers = _integers(found)
    if numbers and len(numbers) <= MAX_INFERRED_CLASSES:
        if numbers != list(range(len(numbers))):
            shown = f"{numbers[0]}..{numbers[-1]}"
            raise UserError(f"{where}: class numbers must be 0, 1, ... without gaps, found {shown}; or give labels")
        return [str(number) for number in numbers]
    if len(found) > MAX_INFERRED_CLASSES or _all_decimal(found):
        raise UserError(
            f"{where} holds {len(found)} different values such as {min(found)!r}, which are no classes;"
            " set regression: true to estimate numbers, or give another label_column"
        )
    return sorted(found)


def _integers(texts: set[str]) -> list[int]:
    """Return the numbers that all texts are, in order; nothing where one is not an integer."""
    try:
        return sorted(int(text) for text in texts)
    except ValueError:
        return []


def _all_decimal(texts: set[str]) -> bool:
    try:
        return all(math.isfinite(float(text)) for text in texts) and any("." in text for text in texts)
    except ValueError:
        return False


def encode_labels(
    values: Sequence[object] | np.ndarray,
    label_names: Sequence[str],
    where: Callable[[int], str],
    *,
    regression: bool = False,
    negative_is_hidden: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a label column into labels (N,), int64 or in a regression float32, and whether each row has one (N,).

    Values are class numbers, names (looked up first), or numbers to be estimated; -1 (in a regression any negative
    number, with `negative_is_hidden`) and a missing value stand for no label. `where` says where row i is; the message
    for a label that is none of the classes, or no number, names the row and the value.
    """
    if regression:
        return _encode_numbers(values, where, negative_is_hidden)
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        wrong = np.flatnonzero((values < UNLABELLED) | (values >= len(label_names)))
        if wrong.size:
            raise _outside(values[wrong[0]], label_names, where(int(wrong[0])))
        return values.astype(np.int64), values != UNLABELLED
    known = {str(UNLABELLED): UNLABELLED} | {str(number): number for number in range(len(label_names))}
    known |= {label_text(name): number for number, name in enumerate(label_names)}
    labels = np.full(len(values), UNLABELLED, dtype=np.int64)
    for row, value in enumerate(values):
        if _is_missing(value):
            continue
        number = known.get(label_text(value))
        if number is None:
            raise _outside(value, label_names, where(row))
        labels[row] = number
    return labels, labels != UNLABELLED


def _outside(value: object, label_names: Sequence[str], where: str) -> UserError:
    names = ", ".join(label_names[:10]) + (", ..." if len(label_names) > 10 else "")
    last = len(label_names) - 1
    return UserError(
        f"{where}: label {str(value)[:60]!r} is none of the classes {names} (0..{last});"
        " correct it, or leave it empty or -1 for a row without a label"
    )


def _encode_numbers(
    values: Sequence[object] | np.ndarray, where: Callable[[int], str], negative_is_hidden: bool
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.full(len(values), np.nan, dtype=np.float32)
    for row, value in enumerate(values):
        if _is_missing(value):
            continue
        try:
            labels[row] = float(str(value))
        except ValueError:
            labels[row] = np.inf
        if np.isinf(labels[row]):
            raise UserError(f"{where(row)}: label {str(value)[:60]!r} is no number; correct it or empty it")
    labelled = ~np.isnan(labels)
    if negative_is_hidden:
        labelled &= ~(labels < 0)
    return labels, labelled


def check_label_order(trained: Sequence[str] | None, wanted: Sequence[str], what: str, advice: str) -> None:
    """Refuse a model that was trained for other classes than the task's, or in another order.

    Nothing is refused without names (old checkpoints; LABEL_0, ...) or in a regression. `what` is the task or file.
    """
    if trained is None or len(wanted) == 1 or list(trained) == list(wanted):
        return
    if all(name.startswith("LABEL_") for name in trained):
        return
    raise UserError(
        f"{what}: this model was trained for {', '.join(trained)}, in this order, and the task has "
        f"{', '.join(wanted)}: {advice}"
    )
