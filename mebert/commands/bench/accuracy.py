"""What is known of the accuracy at an operating point: of the run's last test, else what validation data expect.

Shapes: E exits, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mebert.errors import UserError
from mebert.metrics.bootstrap import paired_bootstrap
from mebert.metrics.curve import ExitRecord, replay
from mebert.metrics.record_files import load_record
from mebert.metrics.task import metric_value
from mebert.models import MultiExitModel
from mebert.policies import ExitPolicy
from mebert.storage.run_folder import RunFolder
from mebert.storage.spec_parts import Expected
from mebert.storage.thresholds import Threshold


@dataclass(frozen=True)
class Accuracy:
    """The metric where samples leave early, and how much it is below that of all layers.

    Attributes:
        metric: Name of the task's main metric.
        value: The metric at the exits taken.
        drop: By how much the last exit's metric is above it, absolute.
        interval: 95 % bootstrap interval of the drop; None where no recorded pass is at hand.
        samples: Rows of the pass.
        data: Which rows they were.
        allowed: The largest drop at which the accuracy holds.
    """

    metric: str
    value: float
    drop: float
    interval: tuple[float, float] | None
    samples: int
    data: str
    allowed: float

    @property
    def state(self) -> Literal["holds", "open", "lost"]:
        """`lost` where even the interval's lower end is more than what is allowed; `open` between the two."""
        if self.drop <= self.allowed + 1e-9:
            return "holds"
        return "open" if self.interval is not None and self.interval[0] <= self.allowed else "lost"

    def __str__(self) -> str:
        ends = "" if self.interval is None else " (95 %: {:.4f} to {:.4f})".format(*self.interval)
        return f"{self.metric} {self.value:.4f}, drop {self.drop:.4f}{ends} on {self.samples:,} rows of {self.data}"


@dataclass(frozen=True)
class StoredPass:
    """What every exit of a run's model gave for the rows of its last test."""

    record: ExitRecord
    about: Mapping[str, Any]  # `split`, `metric`, ...

    @classmethod
    def of_model(cls, folder: str, model: MultiExitModel) -> StoredPass | None:
        """The pass in the run of a model folder; None if there is none of such a model."""
        file = RunFolder.of_model(folder).outputs
        if not Path(folder).is_dir() or not file.is_file():
            return None
        record, about = load_record(file)
        shape = (model.num_exits, len(record.labels), *model.logits_shape)
        fits = tuple(record.logits.shape) == shape and about.get("exit_layers") == list(model.exit_layers)
        return cls(record, about) if fits and len(record.labels) and "metric" in about else None

    def accuracy(self, policy: ExitPolicy, threshold: Threshold, allowed: float) -> Accuracy | None:
        """The accuracy of a policy at a threshold; None where its scores were not recorded, or the metric undefined."""
        try:
            scores = policy.score_record(self.record)
        except UserError:
            return None
        record, metric = self.record, str(self.about["metric"])
        answers = policy.answers(record.logits)
        answered = record if answers is None else replace(record, logits=answers)
        early, full = answered.logits_at(replay(scores, threshold)), record.logits[-1]
        value = metric_value(metric, early, record.labels, record.queries)
        change = paired_bootstrap(metric, full, early, record.labels, record.queries)
        if math.isnan(value) or math.isnan(change.value):
            return None
        rows = str(self.about.get("split", "test"))
        ends = None if change.interval is None else (0.0 - change.interval.high, 0.0 - change.interval.low)
        return Accuracy(metric, value, 0.0 - change.value, ends, len(record.labels), rows, allowed)


def expected_accuracy(expected: Expected | None, allowed: float) -> Accuracy | None:
    """What is stored with the model about the validation data; None where it is not known or undefined."""
    if expected is None or expected.value is None or expected.drop is None:
        return None
    return Accuracy(expected.metric, expected.value, expected.drop, None, expected.samples, expected.data, allowed)
