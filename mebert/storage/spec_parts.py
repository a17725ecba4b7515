"""Parts of the schema of a saved model (`mebert.storage.model_spec`): its numbers, its small tables, its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt

from mebert.choices import ProblemType
from mebert.errors import UserError
from mebert.storage.json_values import Finite, Number

Speedup = Annotated[Finite, Field(gt=0)]
Share = Annotated[Finite, Field(ge=0)]  # of the metric, or of the rows
Coverage = Annotated[Finite, Field(gt=0, lt=1)]
Range = Annotated[list[Finite], Field(min_length=2, max_length=2)]  # lowest, highest
Limit = Annotated[Number, Field(ge=0)]  # infinity: at which all leave
Threshold = Limit | Annotated[tuple[Limit, ...], Field(min_length=1)]  # of each exit but the last
Size = Annotated[int, Field(gt=0, le=2**20)]  # what memory is taken for


def _names_a_class(spec: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(spec.get("class_path"), str):
        raise ValueError("it must have a class_path")
    if not isinstance(spec.get("init_args", {}), dict):
        raise ValueError("its init_args must be settings by name")
    return spec


NamedClass = Annotated[dict[str, Any], AfterValidator(_names_a_class)]


class PlainValues(BaseModel):
    """Plain values; those that the schema does not know stay as they are."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class PrototypeSpec(PlainValues):
    """DE3-BERT's prototypes: width of their space, and the share of the old in a moving average."""

    dim: Annotated[int, Field(gt=0, le=2**16)]
    gamma: Annotated[Finite, Field(gt=0, le=1)]


class TrainedColumns(PlainValues):
    """Columns of the files of the training: of the one or two texts, in the model's order, and of the label."""

    text_columns: Annotated[list[str], Field(min_length=1, max_length=2)]
    label_column: str = "label"


class Guarantee(PlainValues):
    """A threshold with a bound on the loss, and how it was found (`mebert.calibration`)."""

    threshold: Threshold
    loss: str = ""
    epsilon: Share | None = None
    delta: Share | None = None
    samples: NonNegativeInt | None = None
    measured: Finite | None = None
    p_value: str = "loss"
    correction: str = "fixed_sequence"


class Expected(PlainValues):
    """What a recorded pass over labelled rows lets one expect of a policy at a threshold.

    Attributes:
        threshold: Of the policy.
        metric: Name of the task's main metric.
        value: The metric at the exits taken; None where it is undefined.
        drop: By how much the last exit's metric is above it, absolute; None where it is undefined.
        speedup: By layers.
        speedup_interval: Its 95 % bootstrap interval; None without rows.
        samples: Rows of the pass.
        data: Which rows they were.
    """

    threshold: Threshold
    metric: str
    value: Finite | None
    drop: Finite | None
    speedup: Speedup
    speedup_interval: Annotated[list[Speedup], Field(min_length=2, max_length=2)] | None = None
    samples: NonNegativeInt
    data: str = "validation data"

    def __str__(self) -> str:
        value = "undefined" if self.value is None else f"{self.value:.4f}"
        ends = "" if self.speedup_interval is None else " (95 %: {:.2f}-{:.2f})".format(*self.speedup_interval)
        what = f"{self.metric} {value}, {drop_text(self.drop)}, {self.speedup:.2f}x by layers{ends}"
        return f"{what}, on {self.samples:,} rows of {self.data}"


def drop_text(drop: float | None) -> str:
    """A drop of the metric in words.

    >>> drop_text(0.005), drop_text(-0.0444)
    ('drop 0.0050', 'no loss (0.0444 above the last exit)')
    """
    if drop is None:
        return "drop undefined"
    return f"no loss ({-drop:.4f} above the last exit)" if round(drop, 4) < 0 else f"drop {abs(drop):.4f}"


def check_label_names(names: Sequence[str], num_labels: int | None = None) -> None:
    """Refuse label names that are no list of distinct texts, or not `num_labels`."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"label_names must be a list of texts, got {names!r}")
    if num_labels is not None and len(names) != num_labels:
        raise UserError(f"label_names has {len(names)} names, but num_labels is {num_labels}")
    if len(set(names)) != len(names):
        raise UserError(f"label_names must be distinct, got {', '.join(names)}")


def checked_problem_type(given: ProblemType | None, num_labels: int) -> ProblemType:
    """The problem type given, else that of the number of labels; a UserError where the two do not fit."""
    usual: ProblemType = "regression" if num_labels == 1 else "single_label_classification"
    if given is None:
        return usual
    if (given == "regression") != (num_labels == 1):
        raise UserError(f"problem_type {given!r} does not fit num_labels {num_labels} (1 means regression)")
    return given
