"""What a server says of its model, and one request's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from mebert.choices import ProblemType
from mebert.serving.schema import PointInfo, Speed

BackendName = Literal["auto", "torch", "onnx"]


class ServedPoint(PointInfo):
    """An operating point that requests can be answered at, and the settings that ask for it."""

    settings: dict[str, float]

    @property
    def speed(self) -> Speed:
        """What asks for it."""
        return Speed(**self.settings)


class ModelInfo(BaseModel):
    """What `/info` says of a model; the first of the points is the default one.

    Attributes:
        runs: What answers, in words: `torch bfloat16`, or with the backend `auto` which one in batches of which size.
        by_batch: With the backend `auto`: texts of a batch, from which on it is taken, to backend and precision.
        versions: Of mebert and of the libraries that run it.
    """

    model: str
    labels: list[str]
    problem_type: ProblemType
    texts_per_input: int | None
    exit_layers: list[int]
    max_length: int
    backend: BackendName
    precision: str
    runs: str
    by_batch: dict[int, str]
    versions: dict[str, str]
    operating_points: list[ServedPoint]


@dataclass(frozen=True)
class Answered:
    """A request's answer.

    Attributes:
        json: An `Answer`, or a `ListAnswer` where the request has a list.
        exits: Exit of each of its texts, from 1.
        point: Name of the operating point.
        batch: Texts that were classified together with it; 0 where another answer of the same batch counts them.
    """

    json: bytes
    exits: tuple[int, ...]
    point: str
    batch: int = 0
