"""The command: check what can be checked at once, start the server, and say where it is."""

from __future__ import annotations

import json
import os
from functools import partial

from mebert.commands.serve.command import serve
from mebert.errors import UserError
from mebert.onnx.backend import exported_folder, is_exported
from mebert.serving.control import DefaultPoint, MakeControl
from mebert.serving.elastic_control import ELASTIC_MAX_DROP, ElasticControl
from mebert.serving.model_info import ModelInfo
from mebert.serving.schema import Limits, example_request
from mebert.storage.operating_point import check_max_drop
from mebert.storage.run_folder import find_model
from mebert.storage.thresholds import as_threshold, threshold_text

EXTRA = "serve needs litserve and prometheus-client, which are not installed: pip install 'mebert[serve]'"


def run_serve(settings: serve) -> None:
    """Serve a model until the process is told to stop."""
    try:
        from mebert.commands.serve import listening, server, worker
    except ModuleNotFoundError as error:
        raise UserError(EXTRA) from error
    from mebert.commands.serve.guard import API_KEY
    from mebert.commands.serve.shared import Shared

    model = str(settings.model)
    if settings.backend == "onnx":
        exported_folder(model)
    elif not is_exported(model):
        find_model(model)
    key = os.environ.get(API_KEY)
    if key is not None and not key.strip():
        raise UserError(f"{API_KEY} is set, but empty: give it a key, or unset it")
    control = _control(settings)
    listener = listening.bound_socket(settings.host, settings.port)
    threads = settings.threads or max(1, _cores() // settings.workers)
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):  # of the workers: libraries read them at their start
        os.environ.setdefault(name, str(threads))
    backend = "onnx" if settings.backend == "auto" and is_exported(model) else settings.backend  # of each restart, too
    opened = worker.ModelSettings(model, backend, settings.precision, settings.device, threads, settings.batch_size)
    server.ModelServer(
        worker.ClassifierAPI(opened, settings.batch_wait_ms / 1000, Shared(settings.workers)),
        settings.workers,
        Limits(settings.max_request_bytes, settings.max_texts, settings.max_text_chars),
        settings.max_queue,
        settings.timeout,
        settings.drain,
        key,
        control,
        lambda info: print(start_line(settings, info, key is not None), flush=True),
    ).serve(settings.host, listener)


def _control(settings: serve) -> MakeControl:
    """What chooses the operating point of requests that name no speed."""
    if settings.target_p99_ms is None:
        return DefaultPoint
    most = ELASTIC_MAX_DROP if settings.max_drop is None else settings.max_drop
    check_max_drop("max_drop", most)
    return partial(ElasticControl, target_p99_ms=settings.target_p99_ms, max_drop=most, model=str(settings.model))


def start_line(settings: serve, info: ModelInfo, with_key: bool) -> str:
    """Where the server is, what it serves, and a command to try."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    address = f"http://{shown}:{settings.port}"
    points = info.operating_points
    expected = "" if points[0].expected is None else f", expected {points[0].expected.speedup:.2f}x by layers"
    threshold = threshold_text(as_threshold(points[0].threshold))
    how = f"{points[0].policy}, threshold {threshold} (by {points[0].chosen_by}){expected}"
    if isinstance(control := _control(settings)(points), ElasticControl):
        how = f"p99 of {settings.target_p99_ms:g} ms by {control.describe()}"
    example = json.dumps(example_request(info.texts_per_input))
    secret = ' -H "X-API-Key: $MEBERT_API_KEY"' if with_key else ""
    workers = f"{settings.workers} worker{'s' * (settings.workers > 1)}"
    return (
        f"serving {info.model} at {address} ({info.runs}, {workers}; {address}/docs); "
        f"{how}\n"
        f"try: curl -s {address}/predict{secret} -H 'Content-Type: application/json' -d '{example}'"
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
