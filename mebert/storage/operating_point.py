"""An operating point in plain values: a policy's threshold, what chose it, and what is expected of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mebert.errors import UserError, check_range
from mebert.storage.spec_parts import Expected
from mebert.storage.thresholds import Threshold, as_threshold, threshold_text

MAX_DROP = 0.005
"""The default operating point may lose this much of the task's main metric on validation data, unless set."""


@dataclass(frozen=True)
class OperatingPoint:
    """A policy at a threshold, why it is that one, and what validation data expect of it.

    Attributes:
        policy: Its name.
        threshold: Samples leave below it; 0 is the full depth.
        chosen_by: What chose the threshold, such as `max_drop 0.005`.
        expected: Metric, drop and speed-up on the rows on which it was chosen; None where no such pass is known.
    """

    policy: str
    threshold: Threshold
    chosen_by: str
    expected: Expected | None = None

    @property
    def allowed_drop(self) -> float:
        """The largest drop that it was chosen for; the default one where something else chose it."""
        found = re.search(r"max_drop (\S+)$", self.chosen_by)
        return MAX_DROP if found is None else float(found[1])

    def __str__(self) -> str:
        depth = ", full depth" if self.threshold == 0.0 else ""
        return f"{self.policy}, threshold {threshold_text(self.threshold)}{depth} (by {self.chosen_by})"

    def as_lines(self) -> dict[str, str]:
        """The point and what is expected of it, for the summary of a command."""
        if self.expected is None:
            unknown = "not known: no validation pass is stored for this threshold"
            return {"operating point": str(self), "expected": unknown}
        lines = {"operating point": str(self), "expected": str(self.expected)}
        rows, allowed = self.expected.samples, self.allowed_drop
        if self.threshold and "max_drop" in self.chosen_by and 0 < rows * allowed < 1:
            lines["few rows"] = f"a row of {rows:,} is {1 / rows:.2g}: other rows may lose more (--speedup 1)"
        return lines


def check_max_drop(name: str, value: float | None) -> None:
    """Raise a UserError for a largest drop that is no difference of metrics, such as 1 where 1 % is meant."""
    check_range(name, value, 0.0)
    if value is not None and value >= 1.0:
        raise UserError(
            f"{name} {value:g} would allow any loss: it is a difference of the metric, not a percentage; "
            f"for {value:g} % give {name} {value / 100:g}"
        )


def asked_by(
    threshold: float | Sequence[float] | None = None, speedup: float | None = None, max_drop: float | None = None
) -> str | None:
    """The setting that names an operating point, in words; None if all are None."""
    numbers = {"threshold": threshold, "speedup": speedup, "max_drop": max_drop}
    given = ((name, as_threshold(value)) for name, value in numbers.items() if value is not None)
    return next((f"{name} {threshold_text(value, 6)}" for name, value in given), None)
