"""Logged metrics in Weights & Biases: charts over all exits, the summary of a run, best values for sweeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, Literal

from mebert.metrics.task import METRIC_NAMES

EXIT_METRIC = re.compile(r"(?P<split>.+)/exit_(?P<exit>\d+)/(?P<metric>[^/]+)")
CONSTANT = ("gflops",)  # depends on the data alone

LARGER_IS_BETTER = {*METRIC_NAMES, "score", "auc", "agreement"}
LARGER_FAMILIES = ("auc_", "elue_", "speedup_")
SMALLER_IS_BETTER = {"loss", "ce", "kd", "dar", "lte", "imitation", "last", "ece"}
SMALLER_FAMILIES = ("loss_", "ce_", "kd_")


class ExitLines:
    """Collects metrics of exits (`val/exit_03/acc`) as they are logged, for charts of all exits (`val/exits/acc`).

    Those of a test, one value for each exit, are drawn by `WandbReport`.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], dict[int, list[tuple[int, float]]]] = {}  # by split and metric, exit

    def update(self, metrics: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Add values; returns the charts that have a new one, by name."""
        import wandb

        found: dict[tuple[str, str], None] = {}  # in the order of the metrics
        for name, value in metrics.items():
            match = EXIT_METRIC.fullmatch(name)
            if match and match["metric"] not in CONSTANT and not match["split"].startswith("test"):
                found[key := (match["split"], match["metric"])] = None
                self._lines.setdefault(key, {}).setdefault(int(match["exit"]), []).append((step, float(value)))
        charts = {}
        for split, metric in found:
            lines = sorted(self._lines[split, metric].items())
            charts[f"{split}/exits/{metric}"] = wandb.plot.line_series(
                xs=[[at for at, _ in line] for _, line in lines],
                ys=[[value for _, value in line] for _, line in lines],
                keys=[f"exit {number:02d}" for number, _ in lines],
                title=f"{split}: {metric} of every exit",
                xname="optimiser steps",
            )
        return charts


def summary_of(metric: str) -> Literal["max", "min"] | None:
    """Which value of a metric W&B's summary of a run keeps, by the last part of its name; None for the last value.

    >>> [summary_of(name) for name in ("val/exit_03/acc", "val/auc_edr", "train/loss", "train/weight_01")]
    ['max', 'max', 'min', None]
    """
    name = metric.rpartition("/")[2]
    if name in LARGER_IS_BETTER or name.startswith(LARGER_FAMILIES):
        return "max"
    if name in SMALLER_IS_BETTER or name.startswith(SMALLER_FAMILIES) or name.endswith("_loss"):
        return "min"
    return None  # asked for the last value, W&B would nest it like the others: `{"last": ...}`


class Best:
    """The best values so far of a sweep's metrics, as plain metrics: `best/val_auc`, `best/val_score`.

    W&B's summary nests a maximum as `{"max": ...}`, and a sweep cannot optimise nested values.
    """

    names = ("val/auc", "val/score")

    def __init__(self) -> None:
        self._best: dict[str, float] = {}

    def update(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Add values; returns the best values of those of the metrics that are among `names`."""
        seen = {name: float(metrics[name]) for name in self.names if isinstance(metrics.get(name), Real)}
        for name, value in seen.items():
            if value == value:  # not NaN
                self._best[name] = max(value, self._best.get(name, value))
        return {f"best/{name.replace('/', '_')}": self._best[name] for name in seen if name in self._best}
