"""The arguments of `serve`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mebert.choices import PrecisionName
from mebert.errors import UserError, check_range

MOST = 2**31 - 1


@dataclass
class serve:
    """Answer over HTTP: POST /predict takes a text, a pair or a list, and a speed if wanted.

    Requests that come together are classified together. GET /docs describes all of it, GET /info the model, GET
    /metrics is for Prometheus, GET /health for a load balancer. SIGTERM ends the server once it has answered what it
    has. The environment variable MEBERT_API_KEY is the key that clients must send, if it is set.

    Args:
        model: A run, a model folder, a Hub id or a folder of `export`.
        port: Where to listen.
        host: 127.0.0.1 for this machine alone, 0.0.0.0 for every network, :: for IPv6, too.
        backend: torch, or onnx for a folder of `export`; auto: onnx for such a folder, and for a run that has both the
            faster one for each batch.
        workers: Processes that classify, each with its own copy of the model.
        threads: Of each worker; null: the cores of the machine, shared by the workers.
        precision: float32, bfloat16 or int8; null for the default of EarlyExitClassifier on this machine.
        device: auto, cpu, cuda, cuda:1, mps.
        batch_size: Most texts that are classified together.
        batch_wait_ms: How long a worker waits for more texts after the first.
        max_queue: Most texts that wait for an answer; more are refused with 503.
        timeout: Seconds in which a request is answered, or refused with 503.
        max_texts: Most texts of a request.
        max_text_chars: Most characters of a text, or of a pair.
        max_request_bytes: Largest body of a request.
        drain: Most seconds for what is not answered yet when the server is stopped.
        target_p99_ms: Elastic: requests that name no speed are answered at full depth and, while the 99th percentile of
            the latencies is above so many milliseconds, at faster stored operating points; null: at the default one.
        max_drop: Largest expected drop of the metric at a point that target_p99_ms may choose; null: 0.02.
    """

    model: str | None = None
    port: int = 8000
    host: Literal["127.0.0.1", "0.0.0.0", "::"] = "127.0.0.1"
    backend: Literal["auto", "torch", "onnx"] = "auto"
    workers: int = 1
    threads: int | None = None
    precision: PrecisionName | None = None
    device: str = "auto"
    batch_size: int = 32
    batch_wait_ms: float = 2.0
    max_queue: int = 256
    timeout: float = 10.0
    max_texts: int = 64
    max_text_chars: int = 20_000
    max_request_bytes: int = 2**20
    drain: float = 30.0
    target_p99_ms: float | None = None
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if self.model is None:
            raise UserError("model is missing: give a run, a model folder or a Hub id, such as serve RUN --port 8000")
        check_range("port", self.port, 1024, 65535)  # what LitServe takes
        check_range("workers", self.workers, 1, 1024)
        check_range("threads", self.threads, 1, 1024)
        check_range("batch_size", self.batch_size, 1, MOST)
        check_range("batch_wait_ms", self.batch_wait_ms, 0.0, 1000.0)
        check_range("max_texts", self.max_texts, 1, MOST)
        check_range("max_queue", self.max_queue, self.max_texts, MOST)
        check_range("timeout", self.timeout, 0.0, 3600.0, low_open=True)
        check_range("max_text_chars", self.max_text_chars, 1, MOST)
        check_range("max_request_bytes", self.max_request_bytes, 100, MOST)
        check_range("drain", self.drain, 0.0, 3600.0)
        check_range("target_p99_ms", self.target_p99_ms, 0.0, 1000 * self.timeout, low_open=True)
        if self.max_drop is not None and self.target_p99_ms is None:
            raise UserError(f"max_drop {self.max_drop:g} is for an elastic server: give target_p99_ms, too")
