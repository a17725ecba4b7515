"""HTTP connections with bounds that uvicorn does not set: on heads that never end, on idle and on pipelined ones."""

from __future__ import annotations

import asyncio
import json
from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mebert.commands.serve.guard import BUSY_RETRY
from mebert.serving.schema import Refused

CONNECTIONS = 800  # below the usual limit of open files
HEAD_SECONDS = 10.0  # from the first byte of a head (or the connection) to its end
HEAD_BYTES = 2**16
PIECE = 2**12  # bytes, by which heads are measured
MESSAGE_BYTES = 2**25  # head, body and what chunks and trailers add
PIPELINED = 32  # requests of one connection that were sent before the answer to the first
READ_SECONDS = 10.0  # for a client to read its answer before the connection is cut
CUT_SHORT = Refused(400, "the connection was closed before the whole request was there")
LATE_HEAD = Refused(408, f"no whole head came within {HEAD_SECONDS:.0f} s")


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: TimerHandle | None = None
        self._message_bytes = self._piece = 0
        self._in_head = True
        self._unread_timer: TimerHandle | None = None
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's, unless there are too many."""
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > CONNECTIONS:
            self._refuse(Refused(503, f"{CONNECTIONS:,} connections are open already", retry_after=BUSY_RETRY))

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._head_is_there()
        self._forget()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that sends no more may still read its answer."""
        idle = self.cycle is None or self.cycle.response_complete
        if idle or self.cycle.more_body:
            answering = not idle and (self.cycle is not self._running or self.cycle.response_started)
            if not answering and (self._message_bytes or not idle):  # else it is between two requests
                self._refuse(CUT_SHORT)
            return None
        self.cycle.keep_alive = False
        return True

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, unless the head or the pipeline is too long."""
        if self.transport.is_closing():
            return
        for begin in range(0, len(data), PIECE):  # as much can come at once as the system keeps
            self._piece_received(data[begin : begin + PIECE])
            if self.transport.is_closing():
                return

    def _piece_received(self, data: bytes) -> None:
        self._piece = len(data)
        self._message_bytes += self._piece
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._message_bytes > HEAD_BYTES:
            self._refuse(Refused(431, f"the head has more than {HEAD_BYTES:,} bytes"))
        elif self._message_bytes > MESSAGE_BYTES:
            self._refuse(Refused(413, f"the request has more than {MESSAGE_BYTES:,} bytes"))
        elif len(self.pipeline) > PIPELINED:
            self._refuse(Refused(429, f"more than {PIPELINED} requests were sent before the first was answered"))
        elif self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()

    def on_message_begin(self) -> None:
        """As uvicorn's."""
        super().on_message_begin()
        self._in_head, self._message_bytes = True, self._piece

    def on_headers_complete(self) -> None:
        """As uvicorn's."""
        self._head_is_there()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's; a client that still sends what nobody reads is cut off."""
        super().on_response_complete()
        if self.cycle.response_complete:  # else another one of the pipeline is under way
            self._in_head, self._message_bytes = True, 0
            if self.cycle.more_body:
                self._close()

    def pause_writing(self) -> None:
        """As uvicorn's; a client that does not read its answer is cut off."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """As uvicorn's."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def timeout_keep_alive_handler(self) -> None:
        """As uvicorn's."""
        self._close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _forget(self) -> None:
        """No answer is wanted any more; uvicorn tells this to the last request of a pipeline alone."""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse, LATE_HEAD)

    def _head_is_there(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's, in the form of all errors."""
        self._refuse(Refused(400, msg))

    def _refuse(self, refused: Refused) -> None:
        if not self.transport.is_closing():
            self._forget()
            body = json.dumps(refused.content)
            headers = {**refused.headers, "content-type": "application/json", "content-length": len(body)}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            head = STATUS_LINE[refused.status] + lines.encode() + b"connection: close\r\n\r\n"
            self.transport.write(head + body.encode())
            self._close()

    def _close(self) -> None:
        self.transport.close()
        self.loop.call_later(READ_SECONDS, self.transport.abort)
