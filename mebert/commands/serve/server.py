"""LitServe's server with what it lacks for this: bounds, draining, workers that die, and a page of metrics."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing as mp
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from http.client import HTTPConnection
from http.client import HTTPException as NoHTTP
from multiprocessing.connection import wait
from typing import Any

import litserve
from fastapi import FastAPI
from litserve.utils import WorkerSetupStatus
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

import mebert
from mebert.commands.serve.guard import Guard, no_such_page, refusal_response
from mebert.commands.serve.handler import PredictHandler
from mebert.commands.serve.metrics import Metrics
from mebert.commands.serve.openapi import with_the_models_facts
from mebert.commands.serve.protocol import BoundedProtocol
from mebert.commands.serve.shared import DRAINING, SERVING, STOPPING
from mebert.commands.serve.worker import INFO, WARNINGS, ClassifierAPI
from mebert.errors import UserError
from mebert.serving.control import MakeControl
from mebert.serving.model import ModelInfo
from mebert.serving.schema import Answer, ErrorAnswer, Limits, ListAnswer, PredictRequest, Refused

MONITOR_SECONDS = 0.25
PAUSE = 5.0  # seconds before a worker that died within as many after its start is started again
LONGEST_PAUSE = 60.0  # before one that could not start; doubles from PAUSE on, as each try takes time from the others
TELL_SECONDS = 0.5  # for clients with an open connection to learn that the server stops
BACKLOG = 2048  # connections that wait to be accepted, as uvicorn has it
CLOSE_SECONDS = 5  # for connections, once every request is answered
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorAnswer, "description": what}
    for code, what in {
        401: "The key is missing or wrong.",
        413: "The request, a text or the list is too large.",
        415: "It is no JSON.",
        422: "The request is not valid; `field` names what is not.",
        503: "No room, no answer in time, or the worker died: send it again after `Retry-After` seconds.",
    }.items()
}


logger = logging.getLogger(__name__)


class ServerInfo(ModelInfo):
    """What `/info` says."""

    workers: int
    limits: dict[str, int]


class Health(BaseModel):
    """Whether requests are answered."""

    status: str
    workers_ready: int
    workers: int


class ModelServer(litserve.LitServer):
    """One process that speaks HTTP, workers that classify, and LitServe's queues between them.

    Args:
        api: What the workers run.
        workers: How many.
        limits: Of a request.
        max_queue: Most texts that wait.
        timeout: Seconds in which a request is answered or refused.
        drain: Most seconds for requests that are not answered yet when the server is stopped.
        key: That clients must send; None: none.
        make_control: Chooses the default operating point under load (`mebert.serving.control`).
        announce: Called once the server answers.
    """

    def __init__(
        self,
        api: ClassifierAPI,
        workers: int,
        limits: Limits,
        max_queue: int,
        timeout: float,
        drain: float,
        key: str | None,
        make_control: MakeControl,
        announce: Callable[[ModelInfo], None],
    ) -> None:
        self.api, self.shared, self.metrics = api, api.shared, Metrics()
        self.limits, self.drain, self.make_control, self.announce = limits, drain, make_control, announce
        self.info: ModelInfo
        self.failure: str | None = None
        self.inference_workers: list[Any] = []
        self._started: dict[int, float] = {}
        self._failed_starts: dict[int, int] = {}  # of each worker, since it ran
        self._due: dict[int, float] = {}  # when those that are dead are started again
        self._told: dict[int, str] = {}  # of each worker, the last line on why it is started again
        self._predict = (max_queue, timeout)
        super().__init__(
            api,
            accelerator="cpu",  # the device of the model is the worker's own business
            devices=1,
            workers_per_device=workers,
            timeout=timeout,
            healthcheck_path="/litserve/health",
            info_path="/litserve/info",
            middlewares=[(Guard, {"key": key, "shared": api.shared})],
            restart_workers=True,
        )
        self.monitor_internal = MONITOR_SECONDS
        self.uvicorn_graceful_timeout = CLOSE_SECONDS
        self.app.router.redirect_slashes = False  # FastAPI would redirect to whatever host the request names
        usual = self.app.openapi
        self.app.openapi = lambda: with_the_models_facts(usual(), self.info, key is not None)
        self.app.title, self.app.version = "mebert", mebert.__version__
        self.app.description = (
            "An early-exit classifier: `POST /predict` with a text, a pair or a list, and a speed if wanted."
        )

    def serve(self, host: str, listener: socket.socket) -> None:
        """Answer until SIGTERM or Ctrl-C.

        Args:
            host: Where to listen.
            listener: Of `bound_socket`; it listens once a worker can answer.

        Raises:
            UserError: The model cannot be opened, another process took the port, or the one that speaks HTTP has died.
        """
        self._listener, port = listener, listener.getsockname()[1]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.shared.on_signal)
        self._address = ("127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host, port)
        try:
            self.run(
                host=host,
                port=port,
                fd=listener.fileno(),  # nothing is bound again
                num_api_servers=1,
                log_level="error",
                generate_client_file=False,
                access_log=False,
                server_header=False,
                http=BoundedProtocol,
                ws="none",
            )
        except KeyboardInterrupt:  # before it was ready
            self._stop_all()
        except (EOFError, ConnectionError):
            self._stop_all()
            self.failure = "the process with the queues has died; start the server again"
        if self.failure is not None:
            raise UserError(self.failure)

    def _register_internal_endpoints(self) -> None:
        app = self.app

        @app.get("/", include_in_schema=False)
        async def index() -> Response:
            return RedirectResponse("/docs")

        @app.get("/health", response_model=Health, responses={503: {"model": Health}})
        def health() -> Response:
            """200 while a worker can answer, else 503."""
            states = list(self.workers_setup_status.values())
            ready = sum(state == WorkerSetupStatus.READY for state in states)
            serving = self.shared.phase == SERVING and ready > 0
            found = Health(status="ok" if serving else "not ready", workers_ready=ready, workers=len(states))
            return JSONResponse(found.model_dump(), 200 if serving else 503)

        app.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)

        @app.get("/info", response_model=ServerInfo)
        async def info() -> ServerInfo:
            """The model, its labels and operating points, and the server's limits."""
            own = {"litserve": litserve.__version__, "python": sys.version.split()[0]}
            return ServerInfo(
                **{**dict(self.info), "versions": {**self.info.versions, **own}},
                workers=len(self.inference_workers),
                limits={**vars(self.limits), "max_queue": self._predict[0]},
            )

        @app.get("/metrics", response_class=Response)
        async def metrics(request: Request) -> Response:
            """For Prometheus."""
            page, content_type = self.metrics.page(request.headers.get("accept", ""))
            return Response(page, headers={"Content-Type": content_type})

        @app.exception_handler(HTTPException)
        async def refuse(request: Request, error: HTTPException) -> Response:
            return refusal_response(no_such_page(request.method, request.url.path, error), error.headers)

        @app.exception_handler(Exception)
        async def fail(request: Request, error: Exception) -> Response:
            return refusal_response(Refused(500, "internal error"))

        super()._register_internal_endpoints()  # the first route of a path is the one that is used

    def _register_api_endpoints(self, lit_api: Any, request_type: Any, response_type: Any) -> None:
        self.handler = handler = PredictHandler(lit_api, self, self.shared, self.metrics, self.limits, *self._predict)

        async def predict(request: Request) -> Response:
            """Classify a text, a pair, or a list of either."""
            return await handler.handle_request(request)

        self.app.add_api_route(
            "/predict",
            predict,
            methods=["POST"],
            response_model=Answer | ListAnswer,
            responses=ERRORS,
            openapi_extra={
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": PredictRequest.model_json_schema()}},
                }
            },
        )

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """What runs beside the requests, in the process that speaks HTTP; in the place of LitServe's."""
        self.shared.end_with_main()
        usual: Any = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *a: usual(*a) if self.shared.phase == STOPPING else None)
        tasks = [asyncio.create_task(self.handler.receive()), asyncio.create_task(self.handler.watch(self.info))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    def verify_worker_status(self) -> None:
        """Wait until a worker is ready, and with it the model known.

        Raises:
            UserError: One could not open the model, or died; or no default point can be chosen from the model's.
        """
        while not any(state == WorkerSetupStatus.READY for state in self.workers_setup_status.values()):
            failed = any(state == WorkerSetupStatus.ERROR for state in self.workers_setup_status.values())
            if failed or not all(worker.is_alive() for worker in self.inference_workers):
                said = "a worker could not start: is there enough memory? (--workers, and what it printed above)"
                why = next(iter(self.api.failures.values()), said)
                self._stop_all()
                raise UserError(why)
            time.sleep(0.05)
        self.info = ModelInfo.model_validate_json(self.api.opened[INFO])
        for line in self.api.opened[WARNINGS]:
            warnings.warn(line, stacklevel=2)
        try:
            self.handler.control = self.make_control(self.info.operating_points)
        except UserError:
            self._stop_all()
            raise

    def _init_manager(self, num_api_servers: int) -> Any:
        self._manager: Any = super()._init_manager(num_api_servers)
        self.shared.tell_manager(self._manager._process.pid)
        self.api.opened, self.api.failures = self._manager.dict(), self._manager.dict()
        return self._manager

    def launch_single_inference_worker(self, lit_api: Any, worker_id: int) -> Any:
        """Start a worker again when it is time to; until then it is asked again, in the thread that watches them."""
        dead = self.inference_workers[worker_id]
        if self.shared.phase != SERVING:
            return dead
        now = time.monotonic()
        if worker_id not in self._due:
            self._due[worker_id] = now + self._pause(worker_id, self._tell_of_death(worker_id), now)
        if now < self._due[worker_id]:
            return dead
        del self._due[worker_id]
        self._started[worker_id] = now
        return super().launch_single_inference_worker(lit_api, worker_id)

    def _pause(self, worker: int, had_started: bool, now: float) -> float:
        if had_started:
            self._failed_starts[worker] = 0
            return PAUSE if now - self._started.get(worker, -PAUSE) < PAUSE else 0.0
        failed = self._failed_starts[worker] = self._failed_starts.get(worker, 0) + 1
        return min(PAUSE * 2 ** min(failed - 1, 10), LONGEST_PAUSE)

    def _tell_of_death(self, worker: int) -> bool:
        """Count and log it, why a worker cannot start once for each reason; returns whether it had started."""
        name, code = f"predict_{worker}", self.inference_workers[worker].exitcode
        had_started = self.workers_setup_status[name] == WorkerSetupStatus.READY
        self.workers_setup_status[name] = WorkerSetupStatus.STARTING
        self.shared.count_death(worker, had_started)
        ended = f"by signal {-code}" if code < 0 else f"with status {code}"
        line = f"worker {worker + 1} has died, {ended}, and is started again"
        if not had_started:
            why = self.api.failures.pop(worker, f"it ended {ended}")
            again = f"tried again {PAUSE:g} to {LONGEST_PAUSE:g} s later"
            line = f"worker {worker + 1} cannot start ({again}): {why}"
        if had_started or line != self._told.get(worker):
            logger.warning(line)
        self._told[worker] = line
        return had_started

    def _start_server(self, port: Any, servers: Any, level: Any, sockets: Any, kind: Any, **settings: Any) -> Any:
        """As LitServe's, with the socket that was bound first; another process may listen there meanwhile."""
        listen(self._listener)
        return super()._start_server(port, servers, level, [self._listener], kind, **settings)

    def _start_worker_monitoring(self, manager: Any, uvicorn_workers: Any) -> None:
        super()._start_worker_monitoring(manager, uvicorn_workers)
        speaker, queues = uvicorn_workers[0], self._manager._process

        def watch() -> None:
            wait([speaker.sentinel, queues.sentinel])
            if self.shared.phase == SERVING:
                who = "that speaks HTTP" if queues.is_alive() else "with the queues"
                self.failure = f"the process {who} has died; start the server again"
                os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True, name="watch-http").start()
        while speaker.is_alive():
            with suppress(OSError, NoHTTP), closing(HTTPConnection(*self._address, timeout=1.0)) as connection:
                connection.request("GET", "/health")
                connection.getresponse()
                self.announce(self.info)
                return
            time.sleep(0.05)

    def _perform_graceful_shutdown(self, manager: Any, uvicorn_workers: Any, shutdown_reason: str = "normal") -> None:
        """Answer what is there, refuse what comes, then end all processes; Ctrl-C once more does not wait."""
        self.shared.phase = DRAINING
        with suppress(KeyboardInterrupt):
            begin = time.monotonic()
            while self.failure is None and (passed := time.monotonic() - begin) < self.drain:
                if not self.shared.unanswered and passed > TELL_SECONDS:
                    break
                time.sleep(0.05)
        self.shared.phase = STOPPING
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        logging.getLogger("litserve").setLevel(logging.CRITICAL)
        super()._perform_graceful_shutdown(manager, uvicorn_workers, shutdown_reason)

    def _stop_all(self) -> None:
        """End what was started before the server was ready."""
        self.shared.phase = STOPPING
        for process in [*self.inference_workers, *mp.active_children()]:
            process.kill()
            process.join()


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket of a port on which nothing listens; it does not yet listen itself.

    Raises:
        UserError: The port is in use.
    """
    found = socket.socket(socket.AF_INET6 if host == "::" else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise _port_error(host, port, error) from None
    return found


def listen(bound: socket.socket) -> None:
    """Let a socket listen: of several that are bound to one port, the first to do so has it.

    Raises:
        UserError: Another one has.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _port_error(host, port, error) from None


def _port_error(host: str, port: int, error: OSError) -> UserError:
    why = error.strerror or str(error)
    return UserError(f"port {port} of {host}: {why}; give another one, such as --port {port + 1}")
