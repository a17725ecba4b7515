"""What other commands read of a run's `evaluation.json`, which `mebert.report.files` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from mebert.storage.json_values import read_json, read_values

TEST_AGAIN = "mebert did not write it, or not whole: test the run again"


class _Values(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class _Exit(_Values):
    layer: PositiveInt


class _Group(_Values):
    group: str
    samples: NonNegativeInt
    metric: float | None
    mean_layers: float
    shares: list[float]


class _Policy(_Values):
    area: float | None = None


class _Class(_Values):
    label: str
    precision: float
    recall: float
    f1: float
    support: NonNegativeInt


_Pair = Annotated[list[NonNegativeInt], Field(min_length=2, max_length=2)]


class _ClassReport(_Values):
    classes: list[_Class] = Field(min_length=2)
    confusion_matrix: list[list[NonNegativeInt | _Pair]]

    @model_validator(mode="after")
    def _matrix_fits(self) -> Self:
        """Of classes it is square; where rows have several labels it is one of 2 by 2 for each label."""
        rows = self.confusion_matrix
        of_labels = any(isinstance(cell, list) for row in rows for cell in row)
        if {len(self.classes)} != ({len(rows)} if of_labels else {len(rows), *map(len, rows)}):
            raise ValueError(f"confusion_matrix: not {len(self.classes)} rows and columns, one a class")
        if of_labels and any(len(row) != 2 or not all(isinstance(cell, list) for cell in row) for row in rows):
            raise ValueError("confusion_matrix: not 2 rows and columns for each label")
        return self


class EvaluationFile(_Values):
    """The keys that are read; figures may be NaN or null where they are undefined."""

    policy: str
    metric: str
    exits: list[_Exit] = Field(min_length=1)
    plain_gflops: NonNegativeFloat
    split: str | None = None
    samples: NonNegativeInt = 0
    checkpoint: str | None = None
    best_policy: str | None = None
    policies: dict[str, _Policy] = {}
    area_under_curve: dict[str, float | None] = {}
    leaving: list[_Group] = []
    per_class: dict[str, _ClassReport] = {}  # absent before 0.2.0

    @model_validator(mode="after")
    def _exits_have_the_metric(self) -> Self:
        for row in self.exits:
            value = (row.model_extra or {}).get(self.metric, "")
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise ValueError(f"exits: {self.metric!r}, the metric, must be a number at every exit")
        return self


def read_evaluation(file: Path) -> dict[str, Any]:
    """The content of `evaluation.json`; a UserError names file, key and value of what does not belong there."""
    read_values(file, EvaluationFile, advice=TEST_AGAIN)
    return read_json(file, advice=TEST_AGAIN)
