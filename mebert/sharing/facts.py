"""What a model card is written from: plain values of a model and, where they are known, of its training and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mebert.storage.model_spec import ModelSpec
from mebert.storage.spec_parts import Expected
from mebert.storage.thresholds import Threshold, as_threshold, same_threshold

BUILT_IN = "synthetic"
"""The type of the built-in task's data."""

METRIC_IDS = {
    **{"acc": "accuracy", "matthews": "matthews_correlation", "pearson": "pearsonr", "spearman": "spearmanr"},
    **{"f1_micro": "f1", "f1_macro": "f1", "map": "mean_average_precision", "mrr": "mean_reciprocal_rank"},
}
"""mebert's name of a metric to that of the Hub, where they differ."""


@dataclass(frozen=True)
class Training:
    """How a model was trained.

    Attributes:
        recipe: Name of the class.
        method: What it does, in words; empty for a class of the user's own.
        source: Its paper; None: none.
        settings: Name to value, as text.
        task: Name in the task table; None: rows of the user's own, or the built-in task.
        data: The data in words, without names of files.
        dataset: Data set on the Hub, and its configuration; None: it is not there.
        dataset_type: As the Hub calls it: the data set, else the kind of the files.
        validated_on_test: Whether the test rows are the validation rows.
        dataset_licence: As its card says; None: not known.
    """

    recipe: str
    method: str
    source: str | None
    settings: Mapping[str, str]
    task: str | None
    data: str
    dataset: tuple[str, str | None] | None
    dataset_type: str
    validated_on_test: bool
    dataset_licence: str | None = None


@dataclass(frozen=True)
class Point:
    """An operating point and the test's figures: the metric with its 95 % interval, speed-ups by layers and FLOPs."""

    name: str
    call: str  # how it is asked for
    threshold: Threshold
    metric: float
    interval: tuple[float, float] | None
    layers: float
    flops: float | None


@dataclass(frozen=True)
class Untested:
    """An operating point that the test did not measure, and what validation data expect of it."""

    name: str
    call: str
    expected: Expected


@dataclass(frozen=True)
class CardFacts:
    """A model, as its card describes it.

    Attributes:
        repo: `user/name`.
        spec: Of the model.
        encoder: In words: family, layers, width.
        licence: As the Hub names it; None: it is to be filled in.
        policy: Name of the exit policy and its threshold; None: it has none.
        training: None where it is not known.
        evaluation: The content of `evaluation.json` of the model's own test.
        untested: Why there is no test, in a sentence; None: there is one.
        metric: The main metric in words.
        pipeline_fault: Why transformers' pipeline cannot open it; None: it can.
        onnx: Precision of the export beside it; None: there is none.
        curve: Whether the picture `curve.png` is beside it.
        example: A text that the model's tokenizer knows, or a pair; empty: none.
    """

    repo: str
    spec: ModelSpec
    encoder: str
    licence: str | None = None
    policy: tuple[str, Threshold] | None = None
    training: Training | None = None
    evaluation: Mapping[str, Any] | None = None
    untested: str | None = None
    metric: str = ""
    pipeline_fault: str | None = None
    onnx: str | None = None
    curve: bool = False
    example: tuple[str, ...] = ()

    @property
    def in_use(self) -> Mapping[str, Any] | None:
        """The test's figures at the model's own operating point; None where the test was at another one."""
        point = None if self.evaluation is None else self.evaluation.get("operating_point")
        if point is None or self.policy is None or point["policy"] != self.policy[0]:
            return None
        return point if same_threshold(as_threshold(point["threshold"]), self.policy[1]) else None

    @property
    def points(self) -> list[Point]:
        """Full depth, the default and the stored speed-ups, as the test measured them; empty without a test."""
        if self.evaluation is None:
            return []
        full = self.evaluation["full_model"]
        found = [_point("full depth", "speedup=1", full | {"threshold": 0.0})]
        if self.policy is None:
            return found
        name, threshold = self.policy
        if (own := self.in_use) is not None and threshold != 0.0:
            found.append(_point("default", "no setting", own))
        stored = self.spec.operating_points.get(name, {})
        for point in self.evaluation["operating_points"].get(name, []):
            target = point.get("target")
            if target in stored and same_threshold(stored[target], as_threshold(point["threshold"])):
                found.append(_point(f"{target:g}x", f"speedup={target:g}", point))
        return found

    @property
    def untested_points(self) -> list[Untested]:
        """The operating points without figures of the test: all without one, else those calibrated since, and drops."""
        if self.policy is None:
            return []
        name, threshold = self.policy
        places: list[tuple[str, str, Threshold]] = [
            ("full depth", "speedup=1", 0.0),
            ("default", "no setting", threshold),
            *((f"{k:g}x", f"speedup={k:g}", t) for k, t in self.spec.operating_points.get(name, {}).items()),
            *(
                (f"drop {k:g}", f"max_drop={k:g}", t)
                for k, t in self.spec.thresholds_for_max_drop().get(name, {}).items()
            ),
        ]
        known, found = [point.threshold for point in self.points], list[Untested]()
        for label, call, value in places:
            expected = next((one for one in self.expected if same_threshold(one.threshold, value)), None)
            if expected is not None and not any(same_threshold(value, one) for one in known):
                known.append(value)
                found.append(Untested(label, call, expected))
        return found

    @property
    def expected(self) -> list[Expected]:
        """What validation data expect of the policy at its thresholds."""
        return [] if self.policy is None else list(self.spec.expected.get(self.policy[0], []))


def _point(name: str, call: str, point: Mapping[str, Any]) -> Point:
    interval = point.get("interval")
    ends = None if interval is None else (interval[0], interval[1])
    threshold = as_threshold(point["threshold"])
    return Point(name, call, threshold, point["metric"], ends, point["speedup_layers"], point.get("speedup_flops"))
