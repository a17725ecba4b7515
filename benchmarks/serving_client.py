"""A bounded open-loop client: requests leave at Poisson times, whether or not earlier ones were answered.

One thread, keep-alive connections, HTTP/1.1 by hand: a full client library would take as much time as a small model.
A latency counts from the time at which the request should have left. At most `bound` requests are on their way; what
would be more is not sent and counts as lost, so that memory and sockets stay bounded whatever the server does.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sent:
    """One request and what came of it.

    Attributes:
        due: Seconds from the start at which it left, or should have.
        rows: Rows of its texts.
        status: HTTP's; 0 where it was not sent, or no answer came.
        latency: Seconds from `due` to the end of the answer.
        labels: As answered, one for each text.
        point: Name of the operating point, as answered.
        retry_after: Whether a refusal says when to come again.
    """

    due: float
    rows: range
    status: int = 0
    latency: float = float("inf")
    labels: tuple[str, ...] = ()
    point: str | None = None
    retry_after: bool = False


def poisson_times(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Arrival times, at `rate` a second on average."""
    draw, now = random.Random(seed), 0.0
    while (now := now + draw.expovariate(rate)) < seconds:
        yield now


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[tuple[int, bool, bytes]] | None = None
        self._read, self._needed, self._body = bytearray(), -1, 0
        self._status, self._retry = 0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def request(self, message: bytes) -> asyncio.Future[tuple[int, bool, bytes]]:
        """Send; the future gives status, whether Retry-After was there, and the body."""
        assert self.transport is not None
        self.answer = asyncio.get_running_loop().create_future()
        self._read.clear()
        self._needed = -1
        self.transport.write(message)
        return self.answer

    @property
    def usable(self) -> bool:
        """Whether another request can be sent."""
        return self.transport is not None and not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._needed < 0:
            end = self._read.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._read[:end]).lower()
            self._status, self._retry = int(head.split(b" ", 2)[1]), b"\r\nretry-after:" in head
            length = head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0]
            self._body, self._needed = end + 4, end + 4 + int(length or 0)
        if len(self._read) >= self._needed and self.answer is not None and not self.answer.done():
            self.answer.set_result((self._status, self._retry, bytes(self._read[self._body : self._needed])))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError("closed"))


class Client:
    """Sends texts to a server's /predict.

    Args:
        port: Of the server, on this machine.
        texts: Rows are taken in turn.
        per_request: Texts of a request.
        settings: Added to every request, such as `{"speedup": 2}`.
        bound: Most requests on their way.
        timeout: Seconds after which an answer is no longer waited for.
    """

    def __init__(
        self,
        port: int,
        texts: Sequence[str],
        per_request: int,
        settings: dict[str, Any],
        bound: int = 512,
        timeout: float = 10.0,
    ) -> None:
        self.port, self.bound, self.timeout = port, bound, timeout
        starts = range(0, len(texts) - per_request + 1, per_request)
        self._rows = [range(start, start + per_request) for start in starts]
        self._messages = [self._message({"texts": texts[one.start : one.stop]} | settings) for one in self._rows]
        self._idle: list[Connection] = []
        self._busy = 0

    def _message(self, body: dict[str, Any]) -> bytes:
        content = json.dumps(body).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    async def open_loop(self, rate: float, seconds: float, seed: int = 0) -> list[Sent]:
        """Send at Poisson times for so many seconds; every request in the order of its time."""
        return await self._run(enumerate(poisson_times(rate, seconds, seed)))

    async def _run(self, times: Iterator[tuple[int, float]]) -> list[Sent]:
        tasks, lost, start = list[asyncio.Task[Sent]](), list[Sent](), time.perf_counter()
        for number, due in times:
            if (wait := due - (time.perf_counter() - start)) > 0:
                await asyncio.sleep(wait)
            if self._busy >= self.bound:
                lost.append(Sent(due, self._rows[number % len(self._rows)]))
                await asyncio.sleep(0)  # late as we are, answers have to be read
                continue
            self._busy += 1
            tasks.append(asyncio.create_task(self._send(number, due, start + due)))
        return sorted([*lost, *await asyncio.gather(*tasks)], key=lambda one: one.due)

    async def closed_loop(self, clients: int, seconds: float) -> list[Sent]:
        """So many clients that each send the next request when the last was answered; for the capacity."""
        start, number = time.perf_counter(), iter(range(10**9))

        async def one_after_another() -> list[Sent]:
            found = []
            while (due := time.perf_counter() - start) < seconds:
                self._busy += 1
                found.append(await self._send(next(number), due, start + due))
                if found[-1].status != 200:
                    await asyncio.sleep(0.05)
            return found

        return [one for own in await asyncio.gather(*(one_after_another() for _ in range(clients))) for one in own]

    async def _send(self, number: int, due: float, began: float) -> Sent:
        place = number % len(self._rows)
        rows = self._rows[place]
        try:
            async with asyncio.timeout(self.timeout):
                connection = await self._connection()
                status, retry, body = await connection.request(self._messages[place])
        except (OSError, TimeoutError):
            return Sent(due, rows)
        finally:
            self._busy -= 1
        latency = time.perf_counter() - began
        self._idle.append(connection)
        if status != 200:
            return Sent(due, rows, status, latency, retry_after=retry)
        answer = json.loads(body)
        labels = tuple(one["label"] for one in answer["predictions"])
        return Sent(due, rows, status, latency, labels, answer["operating_point"]["name"])

    async def _connection(self) -> Connection:
        while self._idle:
            if (found := self._idle.pop()).usable:
                return found
        _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self.port)
        return made
