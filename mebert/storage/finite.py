"""Weights that are numbers: none NaN, none infinite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mebert.errors import UserError


def check_finite(what: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite; the UserError begins with `what` and names them."""
    broken = [key for key, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise UserError(f"{what}: {first_names(broken)} NaN or infinite; take a checkpoint from before")


def first_names(names: Sequence[str]) -> str:
    """How many weights there are, and the first three of them, with a verb.

    >>> first_names(["a", "b", "c", "d"])
    '4 weights (a, b, c, ...) are'
    """
    some = ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
    return f"1 weight ({some}) is" if len(names) == 1 else f"{len(names)} weights ({some}) are"
