"""What a saved exit predictor is, in plain values: the schema of `exit_predictor.json` and of checkpoints' predictors.

Predictors are built from it in `mebert.exit_predictor`; nothing in it is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from mebert.errors import UserError
from mebert.storage.model_spec import first_fault

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class PredictorOrigin:
    """The exits that a predictor was fitted to.

    Attributes:
        policy: Name of the policy that took them.
        threshold: Its threshold.
        speedup: The speed-up by layers for which the threshold was chosen; None if it was not chosen for one.
        split: Name of the split.
        rows: Number of samples.
    """

    policy: str
    threshold: float
    speedup: float | None = None
    split: str = ""
    rows: int = 0


class PredictorSpec(BaseModel):
    """One predictor: its class, the arguments of its constructor, and its origin."""

    class_path: str
    init_args: dict[str, Any]
    origin: PredictorOrigin | None = None


class PredictorFile(BaseModel):
    """The content of `exit_predictor.json`."""

    format: Literal[1] = 1
    predictors: list[PredictorSpec]


def check_values(schema: type[T], values: Mapping[str, Any], where: str) -> T:
    """The values as the schema has them.

    Raises:
        UserError: A value does not fit; the text begins with `where` and names the key.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {first_fault(error)}") from error
