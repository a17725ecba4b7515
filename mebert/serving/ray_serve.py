"""A model under Ray Serve: replicas on the machines of a cluster, with the requests and responses of `mebert serve`.

    pip install 'mebert[ray]'
    serve run mebert.serving.ray_serve:app model=/models/exported replicas=2 cpus=2

or, from Python, `ray.serve.run(app(ReplicaSettings(model="/models/exported")))`. Each replica has a `ServedModel`; Ray
batches, balances, restarts and scales. Ray is imported by `app` alone.
"""

# No `from __future__ import annotations`: Ray Serve reads the type of app's argument from its signature.
import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from mebert.choices import PrecisionName
from mebert.errors import UserError
from mebert.serving.model import ServedModel
from mebert.serving.model_info import Answered, BackendName
from mebert.serving.schema import Limits, PredictRequest, Refused, parse_request

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

EXTRA = "Ray Serve is not installed: pip install 'mebert[ray]'"


class ReplicaSettings(BaseModel):
    """What `serve run mebert.serving.ray_serve:app NAME=VALUE ...` takes; the names are those of `mebert serve`."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = Field(description="A run, a model folder or a folder of `export`, where every machine can read it.")
    replicas: int = Field(default=1, ge=1, description="Copies of the model, each in a process of its own.")
    cpus: float = Field(default=1.0, gt=0, description="Of each replica.")
    gpus: float = Field(default=0.0, ge=0, description="Of each replica.")
    backend: BackendName = "auto"
    precision: PrecisionName | None = None
    device: str | None = None
    threads: int | None = Field(default=None, ge=1, description="Of each replica; null: its cpus.")
    batch_size: int = Field(default=32, ge=1, description="Most requests that are classified together.")
    batch_wait_ms: float = Field(default=2.0, ge=0, description="How long a replica waits for more of them.")
    max_queue: int = Field(default=256, ge=1, description="Most requests that wait; more are refused with 503.")
    max_texts: int = Field(default=64, ge=1, description="Of a request.")
    max_text_chars: int = Field(default=20_000, ge=1, description="Characters of a text, or of a pair.")
    max_request_bytes: int = Field(default=2**20, ge=100, description="Largest body of a request.")


class Replica:
    """One copy of the model: `POST /predict`, `GET /health` and `GET /info`.

    Args:
        settings: Of the application.
    """

    def __init__(self, settings: ReplicaSettings) -> None:
        from ray import serve

        given = settings
        threads = given.threads or max(1, int(given.cpus))
        self.model = ServedModel.open(
            given.model, given.backend, given.precision, given.device, threads, given.batch_size
        )
        self.limits = Limits(given.max_request_bytes, given.max_texts, given.max_text_chars)

        @serve.batch(max_batch_size=given.batch_size, batch_wait_timeout_s=given.batch_wait_ms / 1000)
        async def together(requests: list[PredictRequest]) -> Sequence[Answered | Refused | Exception]:
            # In a thread: Ray asks this process meanwhile whether it is well. An exception would be that of all.
            answers = await asyncio.to_thread(self.model.answer, requests)
            return [one if isinstance(one, Answered | Refused) else Refused(500, "internal error") for one in answers]

        self._together: Any = together

    async def __call__(self, request: "Request") -> "Response":
        """The response to a request; every error is one of HTTP's, as in `mebert serve`."""
        from starlette.responses import JSONResponse, Response

        try:
            return Response(await self._answer(request), media_type="application/json")
        except Refused as refused:
            return JSONResponse(refused.content, refused.status, refused.headers)

    async def _answer(self, request: "Request") -> bytes:
        asked = f"{request.method} {request.url.path}"
        if asked == "POST /predict":
            answer = await self._together(parse_request(await request.body(), self.limits))
            if isinstance(answer, Refused):
                raise answer
            return bytes(answer.json)
        if asked == "GET /info":
            return self.model.info.model_dump_json().encode()
        if asked == "GET /health":
            return b'{"status":"ok"}'
        raise Refused(404, f"there is no {asked[:100]}: POST /predict, GET /info or GET /health")


def app(settings: ReplicaSettings) -> Any:
    """The application, for `serve run`, `ray.serve.run` and the `import_path` of a configuration.

    Raises:
        UserError: Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise UserError(EXTRA) from error
    deployment = serve.deployment(
        Replica,
        name="mebert",
        num_replicas=settings.replicas,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        max_ongoing_requests=2 * settings.batch_size,  # one batch in work, one that fills
        max_queued_requests=settings.max_queue,
    )
    return deployment.bind(settings)
