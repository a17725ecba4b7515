"""What stands before every path: the key, and the refusal of new requests while the server is being stopped."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mebert.commands.serve.shared import SERVING, Shared
from mebert.serving.schema import Refused

API_KEY = "MEBERT_API_KEY"  # the environment variable
OPEN = frozenset({"/health"})  # while the server stops, too
KEYLESS = OPEN | {"/", "/docs", "/openapi.json"}  # describe the API, which is no secret
DISCARD_BYTES, DISCARD_SECONDS = 2**24, 5.0  # of a body that is not wanted, so that its sender reads the answer
BUSY_RETRY = 1  # seconds
START_RETRY = 5  # while no worker can start


class Guard:
    """An ASGI middleware.

    Args:
        app: What is behind it.
        key: That clients must send as `X-API-Key: KEY` or `Authorization: Bearer KEY`; None: they need none.
        shared: With the other processes.
    """

    def __init__(self, app: ASGIApp, key: str | None, shared: Shared) -> None:
        self.app, self.shared = app, shared
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refusal(scope["path"], dict(scope["headers"]))
        if refused is not None:
            await discard(receive)
            response = refusal_response(refused)
            if refused.status == 503:
                response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        self.shared.unanswered += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.shared.unanswered -= 1

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> Refused | None:
        if self._key is not None and path not in KEYLESS and not self._is_key(headers):
            how = "X-API-Key: KEY or Authorization: Bearer KEY"
            return Refused(401, f"the key is missing or wrong: send {how} (the server has it as {API_KEY})")
        if self.shared.phase != SERVING and path not in OPEN:
            return Refused(503, "the server is being stopped", retry_after=BUSY_RETRY)
        return None

    def _is_key(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = headers.get(b"x-api-key") or (bearer.strip() if scheme.lower() == b"bearer" else b"")
        return hmac.compare_digest(given, self._key or b"")


def no_such_page(method: str, path: str, error: HTTPException) -> Refused:
    """The error for a path that is not there (404), or not with this method (405)."""
    detail = {
        404: f"there is no {path[:100]}: POST /predict, GET /info, /health, /metrics or /docs",
        405: f"{method[:20]} is not for {path[:100]}: use {(error.headers or {}).get('Allow', 'another method')}",
    }
    return Refused(error.status_code, detail.get(error.status_code, str(error.detail)))


def refusal_response(refused: Refused, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal as JSON, with further headers."""
    headers = {**refused.headers, **(headers or {})}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(refused.content, refused.status, headers)


async def discard(receive: Receive, most: int = DISCARD_BYTES) -> None:
    """Read a body that is not wanted: many clients send all of it before they read an answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


async def read_body(receive: Receive, length: str | None, most: int, seconds: float) -> bytearray:
    """The body of a request.

    Raises:
        Refused: It is larger than `most` (413), or not there within some seconds (408).
    """
    if length is not None and (not length.isdecimal() or int(length[:20]) > most):
        if len(length) <= len(str(DISCARD_BYTES)):
            await discard(receive)
        raise Refused(413, f"the request has {length[:20]} bytes, more than {most:,}")
    body, begin = bytearray(), time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message: Message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the connection was closed before the whole request was there")
                body += message.get("body", b"")
                if len(body) > most:
                    body.clear()
                    await discard(receive)
                    raise Refused(413, f"the request has more than {most:,} bytes")
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        raise Refused(408, f"the request was not complete after {time.monotonic() - begin:.0f} s") from None
