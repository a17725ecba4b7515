"""POST /predict: a request is read and checked, waits in the queue, and is answered, or refused in time."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from litserve.server import BaseRequestHandler
from starlette.requests import Request
from starlette.responses import Response

from mebert.commands.serve.guard import BUSY_RETRY, START_RETRY, discard, read_body, refusal_response
from mebert.commands.serve.metrics import Metrics
from mebert.commands.serve.shared import Shared
from mebert.serving.control import TICK, PointControl
from mebert.serving.model_info import Answered, ModelInfo
from mebert.serving.schema import Limits, PredictRequest, Refused, parse_request

BODY_SECONDS = 10.0
LOST_AFTER, EMPTY_FOR = 1.0, 0.5  # seconds
STEER_SECONDS = 0.005  # the shortest time between two questions to the control

logger = logging.getLogger(__name__)


@dataclass
class Waiting:
    """A request in the queue or with a worker.

    Attributes:
        since: When it came.
        answer: What becomes of it.
        worker: Which has it; None: it is in the queue.
    """

    since: float
    answer: asyncio.Future[Answered]
    worker: int | None = None

    def end(self, found: Answered | Refused) -> None:
        """Answer or refuse it, unless it is not waited for any more."""
        if self.answer.done():
            return
        if isinstance(found, Refused):
            self.answer.set_exception(found)
        else:
            self.answer.set_result(found)


class PredictHandler(BaseRequestHandler):
    """Answers requests in the process that speaks HTTP.

    LitServe's own waits without an end for an answer, and marks requests of a worker that died in another process than
    that which waits for them; so both are done here.
    """

    control: PointControl  # is set before the first request

    def __init__(
        self,
        lit_api: Any,
        server: Any,
        shared: Shared,
        metrics: Metrics,
        limits: Limits,
        max_queue: int,
        timeout: float,
    ) -> None:
        super().__init__(lit_api, server)
        self.shared, self.metrics = shared, metrics
        self.limits, self.max_queue, self.timeout = limits, max_queue, timeout
        self.waiting: dict[str, Waiting] = {}  # by id, in the order in which they came
        self.texts = 0  # that wait
        metrics.waiting.set_function(lambda: self.texts)
        self._points: list[str] = []  # names of the operating points
        self._steered = math.inf  # when the control was asked last
        self._reading = 0  # requests whose bodies are being read
        self._deaths = shared.deaths
        self._last_death, self._empty_since = -float("inf"), float("inf")

    async def handle_request(self, request: Request, request_type: Any = Request) -> Response:
        """The response to a request; every error is one of HTTP's."""
        begin, metrics = time.monotonic(), self.metrics
        try:
            answer = await self._answer(request, begin)
            response = Response(answer.json, media_type="application/json")
            metrics.count_answer(answer, time.monotonic() - begin)
        except Refused as refused:
            response = refusal_response(refused)
        except Exception:
            logger.exception("a request could not be answered")
            response = refusal_response(Refused(500, "internal error"))
        metrics.count(response.status_code)
        return response

    async def _answer(self, request: Request, begin: float) -> Answered:
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if not (kind == "application/json" or kind.endswith("+json")) or coding != "identity":
            await discard(request.receive)
            what = f"Content-Type is {kind[:60]!r}" if coding == "identity" else f"Content-Encoding is {coding[:60]!r}"
            raise Refused(415, f"{what}: send JSON, with Content-Type: application/json")
        self._check_room(self._reading + 1)
        self._reading += 1
        try:
            length = request.headers.get("content-length")
            body = await read_body(request.receive, length, self.limits.request_bytes, BODY_SECONDS)
        finally:
            self._reading -= 1
        parsed = parse_request(body, self.limits)
        self.control.arrived(begin)
        count = len(parsed.inputs)
        self._check_room(count)
        self.texts += count
        try:
            answer = await self._ask(parsed, begin)
        finally:
            self.texts -= count
        self.control.finished(now := time.monotonic(), now - begin)
        self.steer(now)
        return answer

    def _check_room(self, more: int) -> None:
        if self.shared.none_can_start:
            raise _nobody()
        if self.texts + more > self.max_queue:
            raise Refused(503, f"{self.texts:,} texts wait already, of {self.max_queue:,}", retry_after=BUSY_RETRY)

    async def _ask(self, request: PredictRequest, begin: float) -> Answered:
        """Put a request into the queue and wait for its answer."""
        uid, _ = await self._submit_request(request.model_dump_json(exclude_none=True).encode())
        self.waiting[uid] = one = Waiting(begin, asyncio.get_running_loop().create_future())
        try:
            return await asyncio.wait_for(one.answer, self.timeout)
        except TimeoutError:
            raise Refused(503, f"not answered within {self.timeout:g} s", retry_after=BUSY_RETRY) from None
        finally:
            del self.waiting[uid]

    async def receive(self) -> None:
        """Until cancelled: read what workers tell."""
        while True:
            message = await self.server._transport.areceive(0)  # None after a second without any
            for uid, found in ({} if message is None else message.requests).items():
                if (one := self.waiting.get(uid)) is None:
                    continue  # it was refused meanwhile
                if found is None:
                    one.worker = message.worker
                else:
                    one.end(found)

    async def watch(self, info: ModelInfo) -> None:
        """Until cancelled: end the requests of workers that died, and ask which point is the default one."""
        self._points = [point.name for point in info.operating_points]
        self.metrics.use_points(self._points, len(info.exit_layers))
        self._steered = time.monotonic() - STEER_SECONDS
        while True:
            self.steer(now := time.monotonic())
            self._end_requests_of_the_dead(now)
            await asyncio.sleep(TICK)

    def steer(self, now: float) -> None:
        """Count the time at the default point, and ask which it is from now on, unless that was asked just now."""
        if now - self._steered < STEER_SECONDS:
            return
        place = before = self.shared.point
        self.metrics.at_point.labels(self._points[before]).inc(now - self._steered)
        self._steered = now
        oldest = max(0.0, now - next(iter(self.waiting.values())).since) if self.waiting else 0.0
        with suppress_and_log():
            place = self.control.update(now, len(self.waiting), oldest)
        self.metrics.point.labels(self._points[before]).set(0)
        self.metrics.point.labels(self._points[place]).set(1)
        self.shared.point = place

    def _end_requests_of_the_dead(self, now: float) -> None:
        deaths = self.shared.deaths
        for worker, (before, after) in enumerate(zip(self._deaths, deaths, strict=True)):
            if after > before:
                self.metrics.restarts.inc(after - before)
                self._last_death = now
                _end([one for one in self.waiting.values() if one.worker == worker])
        self._deaths = deaths
        if self.shared.none_can_start:
            for one in self.waiting.values():
                one.end(_nobody())
        if now - self._last_death < self.timeout + EMPTY_FOR:
            # A request can be lost on its way to a worker that is killed: none has it, though nothing waits.
            queue = self.server._get_request_queue(self.lit_api.api_path)
            old = [one for one in self.waiting.values() if one.worker is None and now - one.since > LOST_AFTER]
            self._empty_since = min(self._empty_since, now) if old and queue.empty() else float("inf")
            if now - self._empty_since > EMPTY_FOR:
                _end(old)


def _nobody() -> Refused:
    return Refused(503, "no worker can start: the log of the server says why", retry_after=START_RETRY)


def _end(lost: list[Waiting]) -> None:
    for one in lost:
        one.end(Refused(503, "the worker with this request has died: send it again", retry_after=BUSY_RETRY))


class suppress_and_log(suppress):
    """What goes wrong is logged, and does not end the watch."""

    def __init__(self) -> None:
        super().__init__(Exception)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        """Log an exception."""
        if isinstance(error, Exception):
            logger.error("the choice of the operating point failed", exc_info=error)
        return bool(super().__exit__(kind, error, trace))
