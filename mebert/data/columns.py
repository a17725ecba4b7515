"""Names of the input's columns in a table of predictions."""

from __future__ import annotations

from collections.abc import Iterable

from mebert.runtime.messages import rank_zero_info


def rename_taken(given: Iterable[str], own: Iterable[str]) -> dict[str, str]:
    """The input's columns, each with its name beside mebert's own: `input_label` where `label` is one of those.

    Programs that read predictions find mebert's columns by name, so these keep theirs.
    """
    given, own = list(given), set(own)
    names: dict[str, str] = {}
    for column in given:
        name = column
        while name in own or name in names.values() or (name != column and name in given):
            name = f"input_{name}"
        names[column] = name
    return names


def tell_renamed(names: dict[str, str]) -> None:
    """Say which columns have another name in the table of predictions."""
    for column, name in names.items():
        if column != name:
            rank_zero_info(f"the input's column {column!r} is {name!r} in the predictions, which have one of that name")
