"""What `/metrics` says, in Prometheus' format: counted in the process that speaks HTTP, whatever worker answered."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from mebert.serving.model_info import Answered

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The counters of a server; labels have few values, whatever clients send."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = every = CollectorRegistry()
        ProcessCollector(registry=every)
        self.requests = Counter("mebert_requests", "Requests to /predict, by HTTP status", ["status"], registry=every)
        self.errors = Counter("mebert_errors", "Requests to /predict with status 400 or more", registry=every)
        self.seconds = Histogram(
            "mebert_request_seconds", "From a request's head to its answer, status 200", buckets=SECONDS, registry=every
        )
        self.batch = Histogram("mebert_batch_texts", "Texts classified together", buckets=TEXTS, registry=every)
        self.exits = Counter("mebert_exits", "Texts that left at an exit", ["exit"], registry=every)
        self.texts = Counter("mebert_texts", "Texts answered at an operating point", ["point"], registry=every)
        self.point = Gauge("mebert_operating_point", "1 for the default point in use", ["point"], registry=every)
        self.at_point = Counter(
            "mebert_operating_point_seconds", "Time for which a point was the default", ["point"], registry=every
        )
        self.waiting = Gauge("mebert_waiting_texts", "Texts that wait for their answer", registry=every)
        self.restarts = Counter("mebert_worker_restarts", "Workers that died and were restarted", registry=every)

    def use_points(self, names: Sequence[str], exits: int) -> None:
        """Show all points and exits from the start, at 0."""
        for name in names:
            self.point.labels(name).set(0)
            self.at_point.labels(name)
            self.texts.labels(name)
        for number in range(1, exits + 1):
            self.exits.labels(str(number))

    def count(self, status: int) -> None:
        """A request was answered or refused."""
        self.requests.labels(str(status)).inc()
        if status >= 400:
            self.errors.inc()

    def count_answer(self, answer: Answered, seconds: float) -> None:
        """A request was answered."""
        self.seconds.observe(seconds)
        self.texts.labels(answer.point).inc(len(answer.exits))
        if answer.batch:
            self.batch.observe(answer.batch)
        for number in answer.exits:
            self.exits.labels(str(number)).inc()

    def page(self, accept: str) -> tuple[bytes, str]:
        """The page, in the format that the client reads, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
