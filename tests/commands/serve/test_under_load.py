"""The real server with two workers under load: what is killed, what is refused, what is answered, and its memory."""

import collections
import json
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from runs import run_process
from served import Served

PAIR = {"pair": ["anna likes dogs", "anna likes animals"]}
KEY = "a key of clients"
WITH_KEY = {"X_API_Key": KEY}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(trained_run):
    return trained_run / "runs" / "tiny" / "version_0"


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    log = tmp_path_factory.mktemp("load") / "log.txt"
    options = ["--workers", "2", "--max_queue", "128", "--timeout", "20"]
    with Served(run, *options, log=log, MEBERT_API_KEY=KEY) as found:
        found.headers = WITH_KEY
        yield found


class Load:
    """Clients that send one request after another until the context ends; `statuses` counts what they got."""

    def __init__(self, server: Served, clients: int, body=PAIR, most: int = 10**9) -> None:
        self.server, self.body, self.left = server, body, most
        self.statuses, self.slowest, self.retry = collections.Counter(), 0.0, set()
        self.sent: list[tuple[float, object]] = []  # when, and what came of it
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self.join()

    def join(self):
        for thread in self._threads:
            thread.join()

    def _send(self):
        while not self._stop.is_set():
            with self._lock:
                if self.left <= 0:
                    return
                self.left -= 1
            begin = time.monotonic()
            try:
                status, _, headers = self.server.send(self.body)
                retry = headers.get("Retry-After")
            except OSError as error:
                status, retry = type(error).__name__, None
            with self._lock:
                self.statuses[status] += 1
                self.sent.append((begin, status))
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.retry |= {retry} if status == 503 else set()


def wait_until(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_key_is_wanted_everywhere_but_for_the_health_and_the_description(server):
    assert server.send(PAIR)[0] == 200
    server.headers = {}
    wrong = [{}, {"X_API_Key": "another"}, {"Authorization": "Bearer another"}, {"Authorization": f"Basic {KEY}"}]
    for headers in wrong:
        for path in ("/predict", "/info", "/metrics", "/litserve/info", "/nowhere"):
            method = "POST" if path == "/predict" else "GET"
            status, content, _ = server.send(PAIR if method == "POST" else None, path, method, **headers)
            assert status == 401, (path, headers)
            assert "send X-API-Key: KEY or Authorization: Bearer KEY" in content["detail"]
            assert content["field"] is None
    assert server.send(b'{"text": "' + b"a" * 5_000_000 + b'"}')[0] == 401
    assert server.send(None, "/health", "GET")[0] == server.send(None, "/docs", "GET")[0] == 200
    described = server.get("/openapi.json")
    assert set(described["components"]["securitySchemes"]) == {"X-API-Key", "Bearer"}
    assert described["security"] == [{"X-API-Key": []}, {"Bearer": []}]
    assert described["paths"]["/health"]["get"]["security"] == []
    assert KEY not in json.dumps(described)
    assert server.send(PAIR, Authorization=f"Bearer {KEY}")[0] == 200
    server.headers = WITH_KEY


def test_a_worker_killed_under_load_loses_no_more_than_it_had(server):
    with Load(server, clients=16) as load:
        time.sleep(2)
        old = server.workers()
        os.kill(old[0], signal.SIGKILL)
        time.sleep(3)
        assert server.get("/health")["status"] == "ok"
        with load._lock:
            before = load.statuses[200]
        wait_until(lambda: load.statuses[200] > before + 50)
    assert set(load.statuses) <= {200, 503}
    assert load.statuses[503] <= 16, "at most one request of each client was in flight"
    assert load.slowest < 5, "those of the killed worker are told soon"
    wait_until(lambda: server.get("/health")["workers_ready"] == 2 and len(server.workers()) == 2)
    assert server.workers() != old
    assert server.metric("mebert_worker_restarts_total") == 1


def test_idle_workers_killed_lose_nothing_that_hangs(server):
    for worker in server.workers():
        os.kill(worker, signal.SIGKILL)
    begin = time.monotonic()
    statuses = [server.send(PAIR)[0] for _ in range(2)]
    assert set(statuses) <= {200, 503}
    assert time.monotonic() - begin < 45
    wait_until(lambda: server.send(PAIR)[0] == 200)


def test_more_than_the_queue_holds_is_refused_at_once_and_the_rest_answered(server):
    texts = {"texts": [PAIR["pair"]] * 64}
    with Load(server, clients=12, body=texts, most=120) as load:
        load.join()
    assert set(load.statuses) == {200, 503}
    assert load.retry == {"1"}
    assert load.slowest < 22
    wait_until(lambda: server.metric("mebert_waiting_texts") == 0, 5)


def test_slow_clients_hold_up_nobody_and_are_cut_off(server):
    head = b"POST /predict HTTP/1.1\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n" % KEY.encode()
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for number, connection in enumerate(slow):
        connection.settimeout(30)
        connection.sendall(head if number % 2 else head + b"Content-Length: 50\r\n\r\n{")
    assert server.send(PAIR)[0] == 200
    for number, connection in enumerate(slow):
        said = connection.recv(1000)
        assert said.split()[1] in ((b"408",) if number % 2 else (b"408", b"503"))
        connection.close()
    assert server.send(PAIR)[0] == 200


def memory(server) -> dict[int, int]:
    """Resident bytes of every process of a server."""
    pids = [server.process.pid, *server.children()]
    return {pid: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids}


def test_ten_thousand_requests_leave_memory_where_it_was(server):
    def send(count: int) -> None:
        with Load(server, clients=8, most=count) as load:
            load.join()
        assert load.statuses == {200: count}

    send(2000)
    before = memory(server)
    send(10_000)
    after = memory(server)
    assert before.keys() == after.keys()
    grown = {server.children().get(pid, "main"): (after[pid] - size) / 1e6 for pid, size in before.items()}
    assert max(grown.values()) < 15, grown  # megabytes


def test_what_is_left_of_a_server_whose_main_process_is_killed_ends(server):
    children = server.children()
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 15)
    with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
        pass
    server.process.returncode = 0


def test_an_export_is_served_without_pytorch_and_sigterm_answers_what_it_has(run, tmp_path):
    done = run_process("export", str(run), "--out", "exported", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    options = ["--backend", "onnx", "--batch_size", "1"]
    with Served(tmp_path / "exported", *options, log=tmp_path / "log.txt") as server:
        assert server.get("/info")["backend"] == "onnx"
        assert server.send(PAIR | {"speedup": 2})[1]["operating_point"]["expected"]["metric"] == "acc"
        (worker,) = server.workers()
        assert "libtorch" not in Path(f"/proc/{worker}/maps").read_text()
        assert server.send(PAIR | {"speedup": 99})[0] == 422
        with Load(server, clients=4, body={"texts": [PAIR["pair"]] * 60}) as load:
            wait_until(lambda: load.statuses[200] > 20)
            server.process.send_signal(signal.SIGTERM)
            stopped = time.monotonic()
            time.sleep(0.15)
            status, content, headers = server.send(PAIR)
            assert (status, content["detail"]) == (503, "the server is being stopped")
            assert (headers["Retry-After"], headers["Connection"]) == ("1", "close")
            assert server.send(None, "/health", "GET")[0] == 503
        assert {status for begin, status in load.sent if begin < stopped - 0.1} == {200}
        assert server.process.wait(timeout=30) == 0
    assert server.said.count("\n") == 2


def test_a_worker_serves_the_model_of_the_start_or_none(run, tmp_path):
    done = run_process("export", str(run), "--out", "exported", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = tmp_path / "exported" / "manifest.json"
    first = manifest.read_text(encoding="utf-8")
    with Served(tmp_path / "exported", log=tmp_path / "log.txt") as server:
        before = server.send(PAIR)[1]

        def kill() -> None:
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_until(lambda: server.send(None, "/health", "GET")[0] == 503, 10)

        kill()
        wait_until(lambda: server.send(PAIR)[0] == 200)
        assert "worker 1 has died, by signal 9, and is started again\n" in server.said
        values = json.loads(first)
        manifest.write_text(json.dumps(values | {"labels": values["labels"][::-1]}), encoding="utf-8")
        kill()
        wait_until(lambda: "no worker can start" in str(server.send(PAIR)[1]))
        begin = time.monotonic()
        assert server.send(PAIR)[2]["Retry-After"] == "5"
        assert time.monotonic() - begin < 1
        assert "exported has other labels than when the server was started; start the server again" in server.said
        manifest.parent.rename(tmp_path / "moved")
        wait_until(lambda: server.said.count("worker 1 cannot start") == 2)
        time.sleep(10)
        assert server.said.count("worker 1 cannot start") == 2, "each reason once"
        assert server.send(None, "/health", "GET")[0] == 503
        assert "exported is not there any more: put it back, or start another server\n" in server.said
        (tmp_path / "moved").rename(manifest.parent)
        manifest.write_text(first, encoding="utf-8")
        wait_until(lambda: server.send(PAIR)[0] == 200)
        assert server.send(PAIR)[1] == before
        assert server.said.count("worker 1 is ready again\n") == 2


def test_the_server_ends_with_one_line_when_it_cannot_go_on(run, tmp_path):
    server = Served(run, log=tmp_path / "log.txt")
    speaker = max(set(server.children()) - set(server.workers()))  # the last to be started
    os.kill(speaker, signal.SIGKILL)
    assert server.process.wait(timeout=30) == 2
    assert server.said.splitlines()[-1].startswith("mebert: error: the process that speaks HTTP has died")
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "model" / "exits.safetensors").write_bytes(b"no weights")
    done = run_process("serve", str(broken), "--port", str(server.port), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"{broken}/model is not the model that" in done.stderr
