"""The real server, with one worker: answers, pages, and what hostile clients get."""

import json
import os
import shlex
import shutil
import socket
import subprocess

import pytest
from served import Served

from mebert import EarlyExitClassifier

PAIR = ["anna likes dogs", "anna likes animals"]
BODY = json.dumps({"pair": PAIR}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
WHOLE = HEAD % len(BODY) + BODY


@pytest.fixture(scope="module")
def run(trained_run):
    return trained_run / "runs" / "tiny" / "version_0"


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with Served(run, "--precision", "float32", log=log) as found:
        yield found
    assert found.said.count("\n") == 2, "nothing but where it is, and a command to try"


def test_it_answers_as_the_classifier(server, run):
    classify = EarlyExitClassifier.from_pretrained(run, precision="float32")
    for speed in ({}, {"speedup": 2}, {"speedup": 1}, {"threshold": 0.95}, {"max_drop": 0.005}):
        status, answer, _ = server.send({"pair": PAIR, **speed})
        (wanted,), point = classify([tuple(PAIR)], **speed), classify.point_of(**speed)
        assert status == 200, answer
        assert (answer["label"], answer["exit"]) == (wanted.label, wanted.exit)
        assert answer["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)
        own = answer["operating_point"]
        assert (own["policy"], own["threshold"], own["chosen_by"]) == (point.policy, point.threshold, point.chosen_by)
        assert (own["expected"] is None) == (point.expected is None)
    status, answer, _ = server.send({"texts": [PAIR, ["a", "b"]], "speedup": 1})
    assert status == 200
    assert [one["exit"] for one in answer["predictions"]] == [3, 3]
    assert answer["operating_point"]["expected"]["speedup"] == 1.0


def test_the_command_that_it_shows_works(server, run):
    first, second = server.said.splitlines()
    assert first.startswith(f"serving {run} at http://127.0.0.1:{server.port} (torch float32, 1 worker; ")
    assert "(by max_drop 0.005)" in first
    found = subprocess.run(shlex.split(second.removeprefix("try: ")), capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["exit"] in (1, 2, 3)


def test_its_pages(server, run):
    assert server.get("/health") == {"status": "ok", "workers_ready": 1, "workers": 1}
    info = server.get("/info")
    assert info["labels"] == ["entailment", "neutral", "contradiction"]
    assert (info["backend"], info["workers"], info["limits"]["texts"]) == ("torch", 1, 64)
    assert {"default", "speedup 1", "speedup 2", "max_drop 0.005"} <= {p["name"] for p in info["operating_points"]}
    assert set(info["versions"]) == {"mebert", "torch", "litserve", "python"}
    described = server.get("/openapi.json")
    paths = described["paths"]
    assert "security" not in described
    assert {"/predict", "/health", "/info", "/metrics"} <= set(paths)
    body = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert {"text", "pair", "texts", "speedup", "max_drop", "threshold"} == set(body["schema"]["properties"])
    assert [server.send(example["value"])[0] for example in body["examples"].values()] == [200, 200, 200]
    assert {"200", "413", "422", "503"} <= set(paths["/predict"]["post"]["responses"])
    assert "swagger" in server.get("/docs")
    before = server.metric('mebert_exits_total{exit="3"}'), server.metric("mebert_request_seconds_count")
    server.send({"texts": [PAIR, PAIR], "speedup": 1})
    server.send({"pair": PAIR, "speedup": 99})
    assert server.metric('mebert_exits_total{exit="3"}') == before[0] + 2
    assert server.metric("mebert_request_seconds_count") == before[1] + 1
    assert server.metric('mebert_texts_total{point="speedup 1"}') >= 2
    assert server.metric("mebert_batch_texts_sum") >= 2
    assert server.metric('mebert_requests_total{status="422"}') >= 1
    assert server.metric("mebert_errors_total") >= 1
    assert server.metric('mebert_operating_point{point="default"}') == 1
    assert server.metric('mebert_operating_point_seconds_total{point="default"}') > 0
    assert server.metric("mebert_waiting_texts") == 0


DEEP, KEYS = b"[" * 500_000, json.dumps({f"k{i}": i for i in range(50_000)}).encode()
HOSTILE = {
    "deep": (b'{"pair": ' + DEEP, 422, None),
    "10 MB": (b'{"text": "' + b"a" * 10_000_000 + b'"}', 413, None),
    "long text": (b'{"pair": ["' + b"a" * 20_001 + b'", "b"]}', 413, "pair"),
    "long list": (json.dumps({"texts": [PAIR] * 65}).encode(), 413, "texts"),
    "lone surrogate": (b'{"pair": ["\\ud800", "b"]}', 422, None),
    "bad UTF-8": (b'{"pair": ["\xff", "b"]}', 422, None),
    "NaN": (b'{"pair": ["a", "b"], "speedup": NaN}', 422, "speedup"),
    "infinite": (b'{"pair": ["a", "b"], "threshold": -Infinity}', 422, "threshold"),
    "wrong type": (b'{"pair": {"a": ["b"]}}', 422, "pair"),
    "thousands of keys": (KEYS, 422, "k0"),
    "not stored": (b'{"pair": ["a", "b"], "speedup": 77}', 422, "speedup"),
    "no pair": (b'{"text": "a"}', 422, "text"),
    "empty": (b"", 422, None),
    "truncated": (BODY[:-4], 422, None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused(server, name):
    body, wanted, field = HOSTILE[name]
    status, content, _ = server.send(body)
    assert (status, content["field"]) == (wanted, field), content
    assert set(content) == {"detail", "field"}


def test_other_requests_that_are_none(server):
    assert server.send(b"text=a", Content_Type="application/x-www-form-urlencoded")[0] == 415
    assert server.send(BODY, Content_Encoding="gzip")[0] == 415
    status, content, headers = server.send(None, method="GET")
    assert (status, content["field"], headers["Allow"]) == (405, None, "POST")
    assert content["detail"] == "GET is not for /predict: use POST"
    status, content, _ = server.send(None, "/nowhere", "GET")
    assert (status, content["field"], content["detail"][:22]) == (404, None, "there is no /nowhere: ")
    assert server.send(b'{"pair": ["\\u0000\\u202e", "\\u001b[31m"]}')[0] == 200
    for head, status in {
        b"GET /health HTTP/1.1\r\nX: " + b"a" * 200_000: 431,
        b"GET /health HTTP/1.1\r\nX: " + b"a" * 90_000 + b"\r\n\r\n": 431,  # whole, and read at once
        b"GET /health HTTP/1.1\r\nX: " + b"a" * 60_000 + b"\r\nBad\r\n\r\n": 400,
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n": 431,
        os.urandom(1000): 400,
        b"POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n": 400,
        b"POST /predict HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
        HEAD % (10**14): 413,
        WHOLE * 200: 429,
    }.items():
        answer = server.raw(head)
        assert answer.split()[1] == b"%d" % status, head[:60]
        assert json.loads(answer.partition(b"\r\n\r\n")[2]).keys() == {"detail", "field"}
    for cut in (HEAD[:30], HEAD % 500 + BODY):  # by a client that sends no more, but reads
        answer = server.raw(cut, half_close=True)
        assert answer.startswith(b"HTTP/1.1 400 "), cut
        assert b'"detail": "the connection was closed before the whole request was there"' in answer
    assert server.raw(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    assert server.send(BODY, "/predict/", Host="evil.example")[0] == 404, "no redirect to where the client says"
    assert b"200 OK" in server.raw(WHOLE, half_close=True)  # of a client that sends no more, but reads
    assert server.raw(WHOLE * 5).startswith(b"HTTP/1.1 200 OK")  # pipelined
    for _ in range(20):  # clients that go before their answer
        with socket.create_connection(("127.0.0.1", server.port)) as gone:
            gone.sendall(WHOLE)
    assert server.send({"pair": PAIR})[0] == 200


@pytest.mark.slow
def test_what_opening_the_model_warns_of_is_said_once(run, tmp_path):
    """Here by a model folder of an earlier mebert, which does not know who chose its threshold."""
    model = tmp_path / "model"
    shutil.copytree(run / "model", model)
    spec = json.loads((model / "exits.json").read_text(encoding="utf-8"))
    del spec["mebert_version"]
    (model / "exits.json").write_text(json.dumps(spec), encoding="utf-8")
    with Served(model, "--workers", "2", log=tmp_path / "log.txt") as server:
        warnings = [line for line in server.said.splitlines() if "warning" in line.lower()]
    assert [line[: len("warning: operating point of")] for line in warnings] == ["warning: operating point of"]
