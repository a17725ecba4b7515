"""A Hub on this machine that answers as it is told, and huggingface_hub pointed at it for the time."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

COMMIT = "0" * 40
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Gives each request to the server's answer."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.answer(self)

    do_HEAD = do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass

    def reply(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        """Answer, with a length that need not be true."""
        self.send_response(status)
        known = {"Content-Length": str(len(body) if length is None else length), "X-Repo-Commit": COMMIT}
        for name, value in (known | {key.replace("_", "-"): text for key, text in headers.items()}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.close_connection = length is not None


class Server(ThreadingHTTPServer):
    """Such a Hub; stopping it ends answers that are late."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.ending = threading.Event()


def refused(status: int, code: str = "") -> Answer:
    """Every request is refused, with the HTTP status and the Hub's name for the reason."""
    return lambda handler: handler.reply(status, b"{}", X_Error_Code=code, X_Error_Message=code)


def file(content: bytes) -> Answer:
    """Every file is this one."""
    return lambda handler: handler.reply(200, content, ETag='"1"')


def cut_off(files: Mapping[str, bytes]) -> Answer:
    """Files by their last name, whole, but for safetensors, of which half is sent."""

    def answer(handler: Handler) -> None:
        content = files.get(handler.path.rpartition("/")[2])
        if content is None:
            handler.reply(404, b"{}", X_Error_Code="EntryNotFound")
        else:
            sent = len(content) // 2 if handler.path.endswith(".safetensors") else len(content)
            handler.reply(200, content[:sent], len(content), ETag=f'"{len(content)}"')

    return answer


def late(handler: Handler) -> None:
    """No answer for a file."""
    if handler.path.startswith("/api/"):
        handler.reply(404, b"{}", X_Error_Code="RepoNotFound")
        return
    handler.server.ending.wait(20)
    handler.close_connection = True


@contextmanager
def against(answer: Answer | None) -> Iterator[str]:
    """Use a Hub that answers so, with an empty cache; None: there is none at that address.

    What was imported has read its settings long ago, so that they are changed where they are kept. Nothing waits
    between attempts.
    """
    import datasets.config
    import huggingface_hub.constants as constants

    server = Server(late if answer is None else answer)
    address = f"http://127.0.0.1:{server.server_port}"
    if answer is None:
        server.server_close()
    else:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    with tempfile.TemporaryDirectory() as cache:
        hub = {
            "HF_HUB_OFFLINE": False,
            "ENDPOINT": address,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_ETAG_TIMEOUT": 0.3,
            "HF_HUB_DOWNLOAD_TIMEOUT": 0.3,
            "HF_HUB_CACHE": cache,
        }
        data = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": False}
        try:
            with (
                mock.patch.multiple(constants, **hub),
                mock.patch("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.3),
                mock.patch.multiple(datasets.config, **data),
                mock.patch.dict("os.environ", HF_ENDPOINT=address),
                mock.patch.object(time, "sleep"),
            ):
                yield address
        finally:
            if answer is not None:
                server.ending.set()
                server.shutdown()
                server.server_close()


CONFIG = b'{"model_type": "bert", "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}'
