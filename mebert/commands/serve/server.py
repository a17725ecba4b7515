"""LitServe's server with what it lacks for this: bounds, draining, workers that die, and a page of metrics."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing as mp
import os
import signal
import socket
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
from starlette.requests import Request
from starlette.responses import Response

import mebert
from mebert.commands.serve.guard import Guard
from mebert.commands.serve.handler import PredictHandler
from mebert.commands.serve.listening import listen
from mebert.commands.serve.metrics import Metrics
from mebert.commands.serve.openapi import with_the_models_facts
from mebert.commands.serve.pages import add_pages, add_predict
from mebert.commands.serve.protocol import BoundedProtocol
from mebert.commands.serve.restarts import Restarts
from mebert.commands.serve.shared import DRAINING, SERVING, STOPPING
from mebert.commands.serve.worker import INFO, WARNINGS, ClassifierAPI
from mebert.errors import UserError
from mebert.serving.control import MakeControl
from mebert.serving.model_info import ModelInfo
from mebert.serving.schema import Limits

MONITOR_SECONDS = 0.25
TELL_SECONDS = 0.5  # for clients with an open connection to learn that the server stops
CLOSE_SECONDS = 5  # for connections, once every request is answered


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
        self.max_queue, self._answer_within = max_queue, timeout
        self._restarts = Restarts(api)
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
        add_pages(self)
        super()._register_internal_endpoints()  # the first route of a path is the one that is used

    def _register_api_endpoints(self, lit_api: Any, request_type: Any, response_type: Any) -> None:
        bounds = self.limits, self.max_queue, self._answer_within
        self.handler = handler = PredictHandler(lit_api, self, self.shared, self.metrics, *bounds)

        async def predict(request: Request) -> Response:
            """Classify a text, a pair, or a list of either."""
            return await handler.handle_request(request)

        add_predict(self.app, predict)

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
        if self.shared.phase != SERVING or not self._restarts.is_due(worker_id, dead, self.workers_setup_status):
            return dead
        return super().launch_single_inference_worker(lit_api, worker_id)

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
