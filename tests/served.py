"""The real server as a process on a free port, and requests to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """`python -m mebert serve MODEL`, once it has said where it is; as a context, ended by SIGTERM."""

    def __init__(self, model: Path | str, *options: str, log: Path, **environment: str) -> None:
        self.port, self.log = free_port(), log
        self.headers: dict[str, str] = {}  # of every request
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **environment}
        command = [sys.executable, "-m", "mebert", "serve", str(model), "--port", str(self.port), *options]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, env=os.environ | own, stdout=file, stderr=subprocess.STDOUT)
        end = time.monotonic() + 150
        while "\ntry: " not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.1)

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0, self.said

    def children(self) -> dict[int, str]:
        """Process ids below the main one, with their command lines."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        pids = [int(word) for word in found.stdout.split()]
        return {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids}

    def workers(self) -> list[int]:
        return [pid for pid, line in self.children().items() if "spawn_main" in line]

    def send(self, body: Any, path: str = "/predict", method: str = "POST", **headers: str) -> tuple[int, Any, Any]:
        """Status, content and headers of a response; a body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        every = {**self.headers, **headers}
        own = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in every.items()}
        try:
            connection.request(method, path, data, own)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        is_json = response.headers.get("Content-Type") == "application/json"
        return response.status, json.loads(content) if is_json else content.decode(), response.headers

    def get(self, path: str) -> Any:
        status, content, _ = self.send(None, path, "GET")
        assert status == 200, content
        return content

    def metric(self, name: str) -> float:
        """A line of /metrics; 0 where it is not there."""
        lines = (line.rsplit(" ", 1) for line in self.get("/metrics").splitlines() if not line.startswith("#"))
        return next((float(value) for key, value in lines if key == name), 0.0)

    def raw(self, *parts: bytes, pause: float = 0.0, half_close: bool = False) -> bytes:
        """What the server says to bytes on a connection, until it closes it or has answered a request whole."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(1_000_000):
                    answer += piece
                    head, whole, body = answer.partition(b"\r\n\r\n")
                    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
                    if whole and (parts[0].startswith(b"HEAD ") or (length and len(body) >= int(length[1]))):
                        break
                return answer
            except ConnectionError:
                return answer or b"cut"
