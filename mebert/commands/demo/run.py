"""The command: open the model, serve the page until it is stopped."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from typing import Any

from mebert.commands.demo.command import DemoSettings
from mebert.commands.demo.speeds import stored_speeds
from mebert.commands.inspect.samples import row_texts
from mebert.commands.inspect.source import Opened, open_model
from mebert.data.loaders import open_split
from mebert.data.model_rows import run_data
from mebert.errors import UserError
from mebert.inference.stream import Text
from mebert.onnx.backend import is_exported
from mebert.storage.run_folder import RunFolder

EXAMPLES = 5


def run_demo(settings: DemoSettings) -> None:
    """Serve the page; ends by Ctrl-C or SIGTERM."""
    if find_spec("gradio") is None:
        raise UserError("demo needs gradio, which is not installed: pip install 'mebert[demo]'")
    name = str(settings.model)
    if is_exported(name):
        raise UserError(
            f"{name} is an export, which runs no exit behind the one taken, and demo shows all: give the run or model "
            "folder that it was exported from"
        )
    with _listen(settings.host, settings.port) as listening:
        opened = open_model(name, settings.device, settings.precision)
        speeds = stored_speeds(opened.classifier, settings.policy)
        app = _app(opened, speeds, _examples(opened))
        host, port = settings.host, listening.getsockname()[1]
        if len(speeds) == 1:
            print(f"no other speed is stored; for the slider: python -m mebert calibrate {name} --speedup 2")
        print(f"{name} is on http://{'[' + host + ']' if ':' in host else host}:{port} (Ctrl-C ends it)", flush=True)
        _serve(app, listening)


def _app(opened: Opened, speeds: Any, examples: list[Text]) -> Any:
    """The page as an ASGI application, without anything of gradio's that leaves this machine or keeps what is typed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, too
    import gradio
    from fastapi import FastAPI

    from mebert.commands.demo.page import build_page

    page, look = build_page(opened, speeds, examples)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    off: dict[str, Any] = dict.fromkeys(("run_history", "ssr_mode", "enable_monitoring", "pwa", "mcp_server"), False)
    return gradio.mount_gradio_app(app, page, "/", footer_links=[], max_file_size="1kb", **off, **look)


def _serve(app: Any, listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket at the address, before the model is opened: a port that is taken is told at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        what = f"port {port}" if isinstance(error.errno, int) and not isinstance(error, socket.gaierror) else "host"
        reason = error.strerror or str(error)
        raise UserError(f"demo cannot listen on {host}:{port} ({reason}): give another {what.split()[0]}") from error


def _examples(opened: Opened) -> list[Text]:
    """Some of the run's own validation texts; none where its data is not here."""
    if opened.run is None:
        return []
    try:
        data = run_data(str(RunFolder(opened.run).model), opened.model)
        return row_texts(data, "val", range(min(EXAMPLES, len(open_split(data, "val")))))
    except UserError as error:
        print(f"no examples on the page: {error}")
        return []
