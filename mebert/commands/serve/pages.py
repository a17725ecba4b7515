"""What the server answers beside predictions: /health, /info, /metrics, and how /predict is described."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

import litserve
from fastapi import FastAPI
from litserve.utils import WorkerSetupStatus
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from mebert.commands.serve.guard import no_such_page, refusal_response
from mebert.commands.serve.metrics import Metrics
from mebert.commands.serve.shared import SERVING, Shared
from mebert.serving.model_info import ModelInfo
from mebert.serving.schema import Answer, ErrorAnswer, Limits, ListAnswer, PredictRequest, Refused

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


class ServerInfo(ModelInfo):
    """What `/info` says."""

    workers: int
    limits: dict[str, int]


class Health(BaseModel):
    """Whether requests are answered."""

    status: str
    workers_ready: int
    workers: int


class Served(Protocol):
    """What the pages read of a server."""

    app: FastAPI
    shared: Shared
    info: ModelInfo
    limits: Limits
    max_queue: int
    metrics: Metrics
    workers_setup_status: dict[str, str]
    inference_workers: list[Any]


def add_pages(server: Served) -> None:
    """Add every page but /predict to a server's app, and what it says where there is none."""
    app = server.app

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return RedirectResponse("/docs")

    @app.get("/health", response_model=Health, responses={503: {"model": Health}})
    def health() -> Response:
        """200 while a worker can answer, else 503."""
        states = list(server.workers_setup_status.values())
        ready = sum(state == WorkerSetupStatus.READY for state in states)
        serving = server.shared.phase == SERVING and ready > 0
        found = Health(status="ok" if serving else "not ready", workers_ready=ready, workers=len(states))
        return JSONResponse(found.model_dump(), 200 if serving else 503)

    app.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)

    @app.get("/info", response_model=ServerInfo)
    async def info() -> ServerInfo:
        """The model, its labels and operating points, and the server's limits."""
        own = {"litserve": litserve.__version__, "python": sys.version.split()[0]}
        return ServerInfo(
            **{**dict(server.info), "versions": {**server.info.versions, **own}},
            workers=len(server.inference_workers),
            limits={**vars(server.limits), "max_queue": server.max_queue},
        )

    @app.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        """For Prometheus."""
        page, content_type = server.metrics.page(request.headers.get("accept", ""))
        return Response(page, headers={"Content-Type": content_type})

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        return refusal_response(no_such_page(request.method, request.url.path, error), error.headers)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        return refusal_response(Refused(500, "internal error"))


def add_predict(app: FastAPI, predict: Callable[..., Any]) -> None:
    """Add /predict, which `predict` answers, with its schema."""
    body = {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}
    app.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        response_model=Answer | ListAnswer,
        responses=ERRORS,
        openapi_extra={"requestBody": body},
    )
