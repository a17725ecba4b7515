"""The load measurement: the client against a small server of the test, the figures, and the page."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
client = pytest.importorskip("serving_client")
serving = pytest.importorskip("serving")
report = pytest.importorskip("serving_report")


async def against_a_server(use, delay=0.0, refuse_every=0, drop_every=0):
    """What `use(port)` gives while a server answers after a delay, refusing or hanging up on some requests."""
    seen = 0

    async def serve(reader, writer):
        nonlocal seen
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                seen += 1
                await asyncio.sleep(delay)
                if drop_every and seen % drop_every == 0:
                    break
                refused = refuse_every and seen % refuse_every == 0
                answer = {"predictions": [{"label": text} for text in body["texts"]]}
                answer["operating_point"] = {"name": f"speedup {body.get('speedup', 1)}"}
                content = json.dumps({"detail": "no room"} if refused else answer).encode()
                status = b"503 Busy\r\nRetry-After: 1" if refused else b"200 OK"
                head = b"HTTP/1.1 " + status + b"\r\nContent-Length: " + str(len(content)).encode() + b"\r\n\r\n"
                writer.write(head + content[:5])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(content[5:])
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        return await use(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def test_poisson_times():
    times = list(client.poisson_times(200, 10, seed=1))
    assert times == sorted(times)
    assert len(times) == pytest.approx(2000, rel=0.1)
    assert times == list(client.poisson_times(200, 10, seed=1))


def test_every_request_is_accounted_for():
    def use(port):
        return client.Client(port, ["a", "b", "c", "d", "e"], 2, {"speedup": 2}).open_loop(100, 1, seed=3)

    sent = asyncio.run(against_a_server(use, refuse_every=4, drop_every=10))
    assert [one.due for one in sent] == list(client.poisson_times(100, 1, seed=3))
    assert {one.status for one in sent} == {0, 200, 503}
    for one in sent:
        assert one.retry_after == (one.status == 503)
        assert one.labels == (tuple("abcd"[row] for row in one.rows) if one.status == 200 else ())
        assert one.point == ("speedup 2" if one.status == 200 else None)


def test_what_is_on_its_way_is_bounded_and_waiting_counts():
    def use(port):
        return client.Client(port, ["a"], 1, {}, bound=5, timeout=0.5).open_loop(200, 0.4)

    sent = asyncio.run(against_a_server(use, delay=0.2))
    answered = [one for one in sent if one.status == 200]
    assert 5 <= len(answered) <= 15
    assert min(one.latency for one in answered) >= 0.2
    late = asyncio.run(against_a_server(use, delay=1.0))
    assert not any(one.status for one in late), "no answer within the timeout"


def test_closed_loop_clients_ask_one_after_another():
    def use(port):
        return client.Client(port, ["a"], 1, {}).closed_loop(3, 0.3)

    sent = asyncio.run(against_a_server(use, delay=0.05))
    assert 9 <= len(sent) <= 18


def test_figures():
    def one(due, status=200, latency=0.01, labels=("A", "B"), start=0, retry=False):
        return client.Sent(due, range(start, start + 2), status, latency, labels, "speedup 2", retry)

    sent = [one(0.1, latency=9.0), one(1.0), one(1.1, labels=("B", "B")), one(1.2, start=1, latency=0.5)]
    sent += [one(1.3, 503, retry=True), one(1.4, 0), one(1.5, 500)]
    found = serving.figures(sent, ["A", "B", "B"], ["A", "A", "B"], 0.1, warm_up=0.5)
    assert (found["sent"], found["answered"], found["refused"], found["failed"]) == (6, 3, 1, 2)
    assert (found["in_time"], found["texts"], found["right"], found["right_at_full_depth"]) == (2, 6, 4, 3)
    assert (found["p50"], found["p99"], found["refused_with_retry_after"]) == (0.01, 0.5, 1)
    assert serving.figures(sent, ["A", "B", "B"], ["A", "A", "B"], None, warm_up=0.5)["target"] == 1.0


@pytest.mark.slow  # matplotlib
def test_the_page_gets_table_and_picture(tmp_path):
    page = tmp_path / "serving.md"
    page.write_text("before\n<!-- load -->\nold\n<!-- end of load -->\nafter\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="no measurements"):
        report.write_report(tmp_path, page)
    for mode in serving.MODES:
        for load in serving.LOADS:
            cell = {"mode": mode, "load": load, "rate": 100 * load, "sent": 1000, "answered": 900, "refused": 90}
            cell |= {"failed": 10, "in_time": 800, "p50": 0.01, "p99": 0.04, "target": 0.05, "right": 790, "texts": 900}
            cell |= {"right_at_full_depth": 800, "points": {"speedup 2": 900}}
            (tmp_path / f"{mode}_{load:g}.json").write_text(json.dumps(cell), encoding="utf-8")
    setting = {"requests_per_second": 100.0, "backend": "torch", "precision": "float32", "device": "CPU (x86_64)"}
    (tmp_path / "capacity.json").write_text(json.dumps(setting), encoding="utf-8")
    report.write_report(tmp_path, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- load -->\n![")
    assert "old" not in text
    assert "| elastic | 2 | 200 | 1,000 | 10 | 40 | 80.0 % | 9.0 % (+ 1.0 % not answered) | 87.8 | +1.11 |" in text
    assert (tmp_path / "serving.png").stat().st_size > 10_000
