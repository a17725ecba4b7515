"""A worker process: it opens the model, takes what waits in batches, and answers."""

from __future__ import annotations

import logging
import os
import signal
import time
import warnings
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

from litserve import LitAPI
from litserve.loops import LitLoop

from mebert.choices import PrecisionName
from mebert.commands.serve.shared import Shared
from mebert.errors import UserError
from mebert.onnx.backend import OnnxBackend
from mebert.onnx.up_to_date import SAME, state_of
from mebert.serving.model import ServedModel
from mebert.serving.model_info import Answered, BackendName
from mebert.serving.schema import PredictRequest, Refused, example_request
from mebert.storage.run_folder import find_model

INFO, STATE, WARNINGS = "info", "state", "warnings"
IDLE = 1.0  # seconds for which an idle worker waits for a request at a time


@dataclass(frozen=True)
class ModelSettings:
    """How a worker opens the model: the arguments of `ServedModel.open`."""

    model: str
    backend: BackendName
    precision: PrecisionName | None
    device: str
    threads: int
    batch_size: int


class ClassifierAPI(LitAPI):
    """The model behind LitServe.

    Args:
        settings: Of the model.
        batch_wait: Seconds for which more texts are awaited after the first.
        shared: With the other processes.

    Attributes:
        opened: Shared by all processes: what the first worker has opened (`INFO`), in which state it was (`STATE`), and
            what was warned of (`WARNINGS`).
        failures: Shared, too: why a worker could not open the model.
    """

    opened: MutableMapping[str, Any]
    failures: MutableMapping[int, str]

    def __init__(self, settings: ModelSettings, batch_wait: float, shared: Shared) -> None:
        super().__init__(max_batch_size=settings.batch_size, batch_timeout=batch_wait, loop=BatchLoop())
        self.settings, self.shared = settings, shared
        self._is_local = Path(settings.model).exists()

    def setup(self, device: str) -> None:
        """Open the model, in the worker."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.shared.on_signal)
        self.shared.end_with_main()
        worker = int(os.environ["LITSERVE_WORKER_ID"])
        try:
            if self._is_local and not Path(self.settings.model).exists():  # else its name may be asked for on the Hub
                raise UserError(f"{self.settings.model} is not there any more: put it back, or start another server")
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", UserWarning)
                self.model = ServedModel.open(**vars(self.settings))
            state = state_now(self.settings.model, self.model)
            refuse_another(self.settings.model, self.opened.setdefault(STATE, state), state)
        except UserError as error:
            self.failures[worker] = str(error)
            logging.getLogger("litserve").setLevel(logging.CRITICAL)  # the main process says it in one line
            raise
        warnings.simplefilter("ignore")  # of empty or odd texts: they are the clients'
        self.model.answer([PredictRequest(**example_request(self.model.classify.num_texts))])  # the first takes longer
        lines = dict.fromkeys(" ".join(str(one.message).split()) for one in told)
        self.opened.setdefault(WARNINGS, list(lines))
        self.opened.setdefault(INFO, self.model.info.model_dump_json())
        if self.shared.tell_start(worker):
            logging.getLogger(__name__).warning("worker %d is ready again", worker + 1)

    def predict(self, x: list[PredictRequest], **kwargs: Any) -> list[Answered | Refused | Exception]:
        """Predictions for a batch of requests; those that ask for no speed get the shared operating point."""
        return self.model.answer(x, self.model.points[self.shared.point].speed)


def state_now(model: str, served: ServedModel) -> dict[str, Any]:
    """What must be the same in every worker: of an export its manifest, which has the digests of its files."""
    if isinstance(served.classify, OnnxBackend):
        return dict(served.classify.runner.manifest)
    return state_of(find_model(model).saved, served.classify.point_of().policy)


def refuse_another(model: str, first: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse a model that has been changed since the server was started.

    Raises:
        UserError: It has; the text says how.
    """
    changed = [SAME.get(name, f"another {name}") for name in (first | now) if first.get(name) != now.get(name)]
    if changed:
        raise UserError(
            f"{model} has {' and '.join(changed)} than when the server was started; start the server again to serve "
            "it as it is now, or put back what was there"
        )


BROKEN = Refused(500, "the text could not be classified")


@dataclass(frozen=True)
class Message:
    """What a worker tells of requests, by their ids: that it has them (None), or their answers."""

    worker: int
    requests: dict[str, Answered | Refused | None]


class BatchLoop(LitLoop):
    """Blocks until there is a request, then takes what there is, up to the size of a batch or a short wait.

    LitServe's own loop asks for requests without a pause, even where there are none, and sends two messages for each.
    Here a batch has one that tells which requests the worker has, so that those of a worker that dies are known, and
    one with the answers; `PredictHandler.receive` reads them.
    """

    def __call__(
        self,
        lit_api: Any,
        device: str,
        worker_id: int,
        request_queue: Any,
        transport: Any,
        workers_setup_status: Any,
        callback_runner: Any,
    ) -> None:
        """Answer until the process is ended."""
        try:
            while True:
                self._run(lit_api, worker_id, request_queue, transport)
        except (EOFError, ConnectionError):  # the process with the queues has ended
            os._exit(1)

    def _run(self, api: ClassifierAPI, worker: int, queue: Any, transport: Any) -> None:
        taken: dict[str, PredictRequest] = {}
        texts, until = 0, None
        while texts < api.max_batch_size:
            left = IDLE if until is None else until - time.monotonic()
            try:
                _, uid, put_at, payload = queue.get(timeout=left) if left > 0 else queue.get_nowait()
            except Empty:
                break
            if until is None:
                until = time.monotonic() + api.batch_timeout
            if time.monotonic() - put_at > float(api.request_timeout or 0):
                continue  # it was refused meanwhile
            taken[uid] = PredictRequest.model_validate_json(payload)
            texts += len(taken[uid].inputs)
        if not taken:
            return
        transport.send(Message(worker, dict.fromkeys(taken)), consumer_id=0)
        found = api.predict(list(taken.values()))
        answers = (one if isinstance(one, Answered | Refused) else BROKEN for one in found)
        transport.send(Message(worker, dict(zip(taken, answers, strict=True))), consumer_id=0)
