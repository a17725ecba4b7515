"""What a server reads and writes: one request's JSON, its bounds, and the answers, in pydantic models.

    {"text": "A fine film."}      {"pair": ["a", "b"]}      {"texts": ["one", "two"], "speedup": 2}

Nothing here imports PyTorch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from pydantic_core import from_json

from mebert.errors import brief, escape_control_chars

Number = Annotated[FiniteFloat, Field(strict=True)]  # "2" and true are none
Threshold = Annotated[Number, Field(ge=0, le=1)]
Pair = tuple[str, str]


class Refused(Exception):
    """A request that is not answered, and why.

    Attributes:
        status: HTTP's: 4xx where the request is at fault, 503 where the server has no room.
        detail: In one line.
        field: The key of the request that is at fault, such as `speedup` or `texts.3`; None for none of them.
        retry_after: Seconds after which the same request may be answered; None: never.
    """

    def __init__(self, status: int, detail: str, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(status, detail, field, retry_after)  # all of them, so that it can be pickled
        self.status, self.detail = status, escape_control_chars(" ".join(detail.split()))
        self.field = None if field is None else escape_control_chars(field)
        self.retry_after = retry_after

    @property
    def content(self) -> dict[str, Any]:
        """The body of the response."""
        return {"detail": self.detail, "field": self.field}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


@dataclass(frozen=True)
class Limits:
    """How large a request may be.

    Attributes:
        request_bytes: Of its body.
        texts: In a list; a pair is one.
        text_chars: Characters of a text, or of both texts of a pair.
    """

    request_bytes: int = 2**20
    texts: int = 64
    text_chars: int = 20_000


@dataclass(frozen=True)
class Speed:
    """The operating point that a request asks for, as in `EarlyExitClassifier`'s call; without any, the default one."""

    speedup: float | None = None
    max_drop: float | None = None
    threshold: float | tuple[float, ...] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Those that are given, as keyword arguments."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}

    @property
    def name(self) -> str:
        """A name for metrics: one of a few, whatever clients send."""
        if self.threshold is not None:
            return "threshold"
        return next((f"{name} {value:g}" for name, value in self.settings.items()), "default")


class PredictRequest(BaseModel):
    """One text, one pair or a list of either, and at which speed to answer: give at most one of the last three."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str | None = Field(default=None, description="A text.")
    pair: Pair | None = Field(default=None, description="Two texts that belong together.")
    texts: Annotated[list[str | Pair], Field(min_length=1, fail_fast=True)] | None = Field(
        default=None, description="Several texts, or pairs of texts."
    )
    speedup: Annotated[Number, Field(ge=1)] | None = Field(
        default=None, description="A stored speed-up; 1 is the full depth."
    )
    max_drop: Annotated[Number, Field(ge=0, lt=1)] | None = Field(default=None, description="A stored largest drop.")
    threshold: Threshold | Annotated[list[Threshold], Field(min_length=1, fail_fast=True)] | None = Field(
        default=None, description="Of the model's exit policy, in [0, 1]; a list has one for each exit but the last."
    )

    @property
    def inputs(self) -> list[str | Pair]:
        """The texts, as a list."""
        single = self.text if self.pair is None else self.pair
        return list(self.texts or ()) if single is None else [single]

    @property
    def speed(self) -> Speed:
        """What it asks for; -0 is 0."""
        given = self.threshold
        threshold = tuple(one + 0.0 for one in given) if isinstance(given, list) else _positive(given)
        return Speed(self.speedup, _positive(self.max_drop), threshold)

    def field_of(self, place: int) -> str:
        """The key of one of its inputs."""
        return f"texts.{place}" if self.texts is not None else "pair" if self.pair is not None else "text"


def _positive(number: float | None) -> float | None:
    return None if number is None else number + 0.0


def example_request(texts_per_input: int | None, many: bool = False) -> dict[str, Any]:
    """A request that fits a model of single texts, or of pairs; with `many` a list."""
    if texts_per_input == 2:
        pairs = [["A premise.", "A hypothesis."], ["One text.", "Another."]]
        return {"texts": pairs} if many else {"pair": pairs[0]}
    return {"texts": ["A fine film.", "Dull."]} if many else {"text": "A fine film."}


Rounded = Annotated[float, AfterValidator(lambda number: float(f"{number:.5g}"))]
"""Five significant digits: what labelled rows tell is not known more precisely."""


class ExpectedMetric(BaseModel):
    """What labelled rows let one expect of an operating point."""

    metric: str
    value: Rounded | None
    drop: Rounded | None = Field(description="By how much the last exit's metric is above it; below 0: it is lower.")
    speedup: Rounded = Field(description="By layers.")
    samples: int


class PointInfo(BaseModel):
    """An operating point: texts leave at the first exit whose score is below the threshold."""

    name: str = Field(description="As in /metrics: default, speedup 2, max_drop 0.01 or threshold.")
    policy: str
    threshold: float | list[float]
    chosen_by: str
    expected: ExpectedMetric | None = Field(description="On validation data; null where no such pass is stored.")


def _is_none(value: Any) -> bool:
    return value is None


class TextAnswer(BaseModel):
    """The answer for one text; `label` for one class, `labels` where a text may have several, `score` for a number."""

    label: str | None = Field(default=None, exclude_if=_is_none)
    labels: list[str] | None = Field(default=None, exclude_if=_is_none)
    score: float | None = Field(default=None, exclude_if=_is_none)
    probabilities: dict[str, float]
    exit: int = Field(description="At which the text left, from 1.")


class Answer(TextAnswer):
    """The answer for `text` or `pair`."""

    operating_point: PointInfo


class ListAnswer(BaseModel):
    """The answers for `texts`, in their order."""

    predictions: list[TextAnswer]
    operating_point: PointInfo


class ErrorAnswer(BaseModel):
    """Why there is no answer."""

    detail: str
    field: str | None = Field(description="The key of the request that is at fault; null where it is none of them.")


def parse_request(body: bytes | bytearray, limits: Limits) -> PredictRequest:
    """The request of a body.

    Raises:
        Refused: 422 for what is none (the field is named), 413 for one that is above a limit.
    """
    if len(body) > limits.request_bytes:
        raise Refused(413, f"the request has more than {limits.request_bytes:,} bytes")
    try:
        values = from_json(bytes(body))
    except ValueError as error:  # not JSON, too deeply nested, half of a surrogate pair, an integer of 5,000 digits
        raise Refused(422, f"the request is not valid JSON: {error!s:.200}") from None
    if not isinstance(values, dict):
        raise Refused(422, 'the request must be a JSON object, such as {"text": "A fine film."}')
    if (unknown := next((key for key in values if key not in PredictRequest.model_fields), None)) is not None:
        known = ", ".join(PredictRequest.model_fields)
        raise Refused(422, f"{brief(unknown)} is no key of a request; known: {known}", unknown[:80])
    names = [name for name, _ in json.loads(body, object_pairs_hook=list, parse_int=float)]
    if len(names) > len(values):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise Refused(422, f"{twice} is given twice; give it once", twice)
    given = [name for name in ("text", "pair", "texts") if values.get(name) is not None]
    if len(given) != 1:
        what = f"{' and '.join(given)} were both given; give one of them" if given else "give text, pair or texts"
        raise Refused(422, what, given[1] if given else "text")
    speeds = [name for name in ("speedup", "max_drop", "threshold") if values.get(name) is not None]
    if len(speeds) > 1:
        raise Refused(422, f"{' and '.join(speeds)} were both given; give one of them", speeds[1])
    listed = values.get("texts")
    if isinstance(listed, list) and len(listed) > limits.texts:
        raise Refused(413, f"texts has {len(listed):,} texts, more than {limits.texts:,}", "texts")
    try:
        request = PredictRequest.model_validate(values)
    except ValidationError as error:
        raise _refused(error) from None
    for place, text in enumerate(request.inputs):
        length = len(text) if isinstance(text, str) else sum(map(len, text))
        if length > limits.text_chars:
            field = request.field_of(place)
            raise Refused(413, f"{field} has {length:,} characters, more than {limits.text_chars:,}", field)
    return request


def _refused(error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name, *inner = first["loc"]
    field = ".".join([str(name), *(str(part) for part in inner[:1] if isinstance(part, int))])
    message = first["msg"][:1].lower() + first["msg"][1:]
    if name == "texts" and inner:
        message = "must be a text, or a pair of texts [a, b]"
    if name == "pair":
        field = "pair"
        message = "must be two texts [a, b]"
    if name == "threshold":
        message = "must be a number in [0, 1], or a list with one for each exit but the last"
    return Refused(422, f"{field}: {message}", field)
