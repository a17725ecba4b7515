"""The metrics of all exits over training, as one chart for each split and metric."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["ExitLines"]

EXIT_METRIC = re.compile(r"(?P<split>.+)/exit_(?P<exit>\d+)/(?P<metric>[^/]+)")
CONSTANT = ("gflops",)  # depends on the data alone


class ExitLines:
    """Collects `val/exit_03/acc` and its like as they are logged; what they make is `val/exits/acc`.

    A test has one value an exit and no time: `WandbReport` draws those over the exits.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[str, str], list[int]] = {}
        self._values: dict[tuple[str, str], dict[int, list[float]]] = {}

    def update(self, metrics: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Charts of what has just got a new value, by name, with all that came before.

        Args:
            metrics: Name to value, as they are logged.
            step: Optimiser steps so far.
        """
        found: dict[tuple[str, str], dict[int, float]] = {}
        for name, value in metrics.items():
            match = EXIT_METRIC.fullmatch(name)
            if match and match["metric"] not in CONSTANT and not match["split"].startswith("test"):
                found.setdefault((match["split"], match["metric"]), {})[int(match["exit"])] = float(value)
        for key, values in found.items():
            self._steps.setdefault(key, []).append(step)
            lines = self._values.setdefault(key, {})
            for number, value in values.items():
                lines.setdefault(number, []).append(value)
        return {f"{split}/exits/{metric}": self._chart(split, metric) for split, metric in found}

    def _chart(self, split: str, metric: str) -> Any:
        import wandb

        steps, lines = self._steps[split, metric], self._values[split, metric]
        numbers = sorted(lines)
        return wandb.plot.line_series(
            xs=[steps[-len(lines[number]) :] for number in numbers],
            ys=[lines[number] for number in numbers],
            keys=[f"exit {number:02d}" for number in numbers],
            title=f"{split}: {metric} of every exit",
            xname="optimiser steps",
        )
