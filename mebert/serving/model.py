"""A model behind a server: it answers batches of requests, each at the operating point that it asks for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

import mebert
from mebert.choices import PrecisionName
from mebert.errors import UserError
from mebert.onnx.backend import OnnxBackend, is_exported, refuse_export
from mebert.serving.model_info import Answered, BackendName, ModelInfo, ServedPoint
from mebert.serving.schema import (
    Answer,
    ExpectedMetric,
    ListAnswer,
    PointInfo,
    PredictRequest,
    Refused,
    Speed,
    TextAnswer,
)
from mebert.storage.run_folder import find_model

if TYPE_CHECKING:
    from mebert.inference.auto_backend import AutoBackend
    from mebert.inference.classifier import EarlyExitClassifier

LIBRARIES = {"torch": "torch", "onnx": "onnxruntime"}
"""What runs the graph of a backend."""

OWN_SPEED = Speed()  # the model's own operating point

logger = logging.getLogger(__name__)


class ServedModel:
    """A classifier that answers `PredictRequest`s; requests that ask for the same speed share batches.

    Any server can hold one. A process of its own calls `answer`; the requests come from `parse_request`:

        model = ServedModel.open("runs/quickstart/version_0")
        found = model.answer([parse_request(body, Limits()) for body in bodies])   # Answered or Refused, in order

    Args:
        classify: The classifier.
        name: What the model is called, for `info`.
        batch_size: Most texts that run through the layers together.

    Raises:
        UserError: The model has no policy.
    """

    def __init__(
        self,
        classify: EarlyExitClassifier | OnnxBackend | AutoBackend[EarlyExitClassifier],
        name: str,
        batch_size: int = 32,
    ) -> None:
        self.classify, self.name, self.batch_size = classify, name, batch_size
        self._known: dict[Speed, PointInfo] = {}
        if classify.operating_point is None:
            raise UserError(f"{name} was saved without a policy; calibrate it first, with --use NAME")
        self.points = self._stored_points()
        self._known = {point.speed: PointInfo(**point.model_dump(exclude={"settings"})) for point in self.points}

    @classmethod
    def open(
        cls,
        model: str | Path,
        backend: BackendName = "auto",
        precision: PrecisionName | None = None,
        device: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
    ) -> ServedModel:
        """Open a run, a model folder, a Hub id or a folder of `export`; the latter without PyTorch.

        Args:
            model: Its path or id.
            backend: `auto`: onnx for a folder of `export`; else the faster one for each batch where the model has its
                export beside it (`<run>/exported`), and torch where not.
            precision: As in `EarlyExitClassifier`; an export has its own.
            device: As in `EarlyExitClassifier`; an export runs on the CPU.
            threads: Of this process; None: one a core.
            batch_size: As in the class.

        Raises:
            UserError: There is no such model, or a setting does not fit it.
        """
        if backend == "onnx" or (backend == "auto" and is_exported(model)):
            if precision is not None:
                raise UserError(f"precision {precision} is not for an export, which has its own; leave it out")
            if device not in (None, "auto", "cpu"):
                raise UserError(f"device {device} is not for an export, which runs on the CPU; leave it out")
            return cls(OnnxBackend(model, threads), str(model), batch_size)
        refuse_export(model)
        import torch

        from mebert.inference.classifier import EarlyExitClassifier
        from mebert.storage.stored_weights import trained_folder

        if threads is not None:
            torch.set_num_threads(threads)
        folder = trained_folder(find_model(model))
        device = None if device == "auto" else device
        found: EarlyExitClassifier | OnnxBackend | AutoBackend[EarlyExitClassifier]
        if backend == "auto":
            found = EarlyExitClassifier.from_pretrained(folder, device, precision, backend="auto")
        else:
            found = EarlyExitClassifier.from_pretrained(folder, device, precision)
        return cls(found, str(model), batch_size)

    @property
    def info(self) -> ModelInfo:
        """What is served."""
        classify = self.classify
        taken: dict[int, tuple[str, str]] = getattr(classify, "taken", {})
        own = f"{classify.backend} {classify.precision}"
        used = {name for name, _ in taken.values()} | {classify.backend} - {"auto"}
        versions = {name: version(name) for name in sorted(LIBRARIES[one] for one in used)}
        return ModelInfo(
            model=self.name,
            labels=classify.label_names,
            problem_type=classify.problem_type,
            texts_per_input=classify.num_texts,
            exit_layers=list(classify.exit_layers),
            max_length=classify.max_length,
            backend=classify.backend,
            precision=classify.precision,
            runs=f"auto: {classify}" if taken else own,
            by_batch={size: " ".join(one) for size, one in taken.items()},
            versions={"mebert": mebert.__version__, **versions},
            operating_points=self.points,
        )

    def answer(
        self, requests: Sequence[PredictRequest], default: Speed = OWN_SPEED
    ) -> list[Answered | Refused | Exception]:
        """Answers in the order of the requests; where one cannot be answered, the others are.

        Args:
            requests: Of one batch.
            default: The speed of those that name none.

        Returns:
            For each an `Answered`; or a `Refused` where it is at fault (a speed that is not stored); or the exception
            that classifying its texts has raised.
        """
        groups: dict[Speed, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(request.speed if request.speed.settings else default, []).append(place)
        found: dict[int, Answered | Refused | Exception] = {}
        for speed, places in groups.items():
            found |= zip(places, self._answer_alike([requests[place] for place in places], speed), strict=True)
        return [found[place] for place in range(len(requests))]

    def point(self, speed: Speed) -> PointInfo:
        """The operating point that a speed names.

        Raises:
            UserError: It is not stored.
        """
        if (stored := self._known.get(speed)) is not None:
            return stored
        point = self.classify.point_of(**speed.settings)
        known, expected = point.expected, None
        if known is not None:
            expected = ExpectedMetric(**known.model_dump(include=set(ExpectedMetric.model_fields)))
        threshold = list(point.threshold) if isinstance(point.threshold, tuple) else point.threshold
        return PointInfo(
            name=speed.name, policy=point.policy, threshold=threshold, chosen_by=point.chosen_by, expected=expected
        )

    def _answer_alike(self, requests: Sequence[PredictRequest], speed: Speed) -> list[Answered | Refused | Exception]:
        """Answers for requests at one speed, whose texts are classified together."""
        try:
            point = self.point(speed)
        except UserError as error:
            refused = Refused(422, str(error), next(iter(speed.settings), None))
            return [refused] * len(requests)
        fit = [self._refusal(request) for request in requests]
        fitting = [request for request, refusal in zip(requests, fit, strict=True) if refusal is None]
        answered = iter(self._classify(fitting, speed, point) if fitting else ())
        return [next(answered) if refusal is None else refusal for refusal in fit]

    def _classify(
        self, requests: Sequence[PredictRequest], speed: Speed, point: PointInfo
    ) -> list[Answered | Refused | Exception]:
        texts = [text for request in requests for text in request.inputs]
        try:
            predictions = iter(self.classify(texts, batch_size=self.batch_size, **speed.settings))
            own = [[next(predictions) for _ in request.inputs] for request in requests]
        except Exception as error:  # of one text: the others shall not suffer from it
            if len(requests) == 1:
                logger.exception("a request could not be classified")
                return [error]
            return [one for request in requests for one in self._classify([request], speed, point)]
        found: list[Answered | Refused | Exception] = []
        for request, part in zip(requests, own, strict=True):
            answers = [
                TextAnswer(
                    label=one.label,
                    labels=None if one.labels is None else list(one.labels),
                    score=one.score,
                    probabilities=one.probabilities,
                    exit=one.exit,
                )
                for one in part
            ]
            answer: BaseModel
            if request.texts is None:
                answer = Answer(**dict(answers[0]), operating_point=point)
            else:
                answer = ListAnswer(predictions=answers, operating_point=point)
            json = answer.model_dump_json().encode()
            found.append(Answered(json, tuple(one.exit for one in part), point.name, 0 if found else len(texts)))
        return found

    def _refusal(self, request: PredictRequest) -> Refused | None:
        """Why a request does not fit the model: texts where it was trained on pairs, or pairs where on texts."""
        wanted = self.classify.num_texts
        for place, text in enumerate(request.inputs):
            if wanted is not None and (1 if isinstance(text, str) else 2) != wanted:
                what = "pairs of texts: give pair [a, b]" if wanted == 2 else "single texts: give text"
                field = request.field_of(place)
                return Refused(422, f"{field}: this model reads {what}", field)
        return None

    def _stored_points(self) -> list[ServedPoint]:
        own = self.classify.point_of().policy
        speeds = [
            Speed(),
            *(Speed(speedup=number) for number in self.classify.operating_points.get(own, {})),
            *(Speed(max_drop=number) for number in self.classify.max_drops.get(own, {})),
        ]
        if Speed(speedup=1.0) not in speeds:
            speeds.insert(1, Speed(speedup=1.0))
        return [ServedPoint(**dict(self.point(speed)), settings=speed.settings) for speed in speeds]
