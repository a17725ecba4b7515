"""What a saved exit predictor is, in plain values: the schema of `exit_predictor.json` and of a checkpoint's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, NonNegativeInt

from mebert.storage.spec_parts import Speedup, Threshold


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
    threshold: Threshold
    speedup: Speedup | None = None
    split: str = ""
    rows: NonNegativeInt = 0


class PredictorSpec(BaseModel):
    """One predictor: its class, the arguments of its constructor, and its origin."""

    class_path: str
    init_args: dict[str, Any]
    origin: PredictorOrigin | None = None


class PredictorFile(BaseModel):
    """The content of `exit_predictor.json`."""

    format: Literal[1] = 1
    predictors: list[PredictorSpec]
