"""A model under Ray Serve: a local Ray, requests over HTTP, and the answers of the same model without Ray."""

from __future__ import annotations

import json
import socket
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir

import pytest
from pydantic import ValidationError

from mebert.errors import UserError
from mebert.serving.model import ServedModel
from mebert.serving.ray_serve import ReplicaSettings, app
from mebert.serving.schema import Limits, PredictRequest

PAIR = ["anna likes dogs", "anna likes animals"]


def test_settings_are_checked_and_ray_is_optional(monkeypatch):
    with pytest.raises(ValidationError, match="replica\n"):
        ReplicaSettings(model="m", replica=2)
    given = ReplicaSettings(model="m")
    assert (given.max_request_bytes, given.max_texts, given.max_text_chars) == tuple(vars(Limits()).values())
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'mebert\[ray\]'"):
        app(given)


@pytest.fixture(scope="module")
def address(trained_run):
    """Where one replica answers, on a Ray of its own."""
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "mebert[ray]"')
    serve = pytest.importorskip("ray.serve", reason='Ray Serve is not installed: pip install "mebert[ray]"')
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = {"env_vars": {"PYTHONPATH": ":".join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}}
    with chdir(trained_run):
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=paths)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            model = str(trained_run / "runs/tiny/version_0")
            serve.run(app(ReplicaSettings(model=model, precision="float32", batch_wait_ms=50, max_texts=3)))
            yield f"http://127.0.0.1:{port}"
        finally:
            serve.shutdown()
            ray.shutdown()


def ask(address, path="/predict", body=None):
    """The status and the content of an answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address + path, data), timeout=60) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_it_answers_as_the_model_does(address, trained_run):
    model = ServedModel.open(trained_run / "runs/tiny/version_0", precision="float32")
    bodies = [{"pair": PAIR}, {"texts": [PAIR, PAIR[::-1]], "speedup": 1}, {"pair": PAIR, "threshold": 0.5}]
    bodies += [{"pair": [f"anna likes dogs {n}", "bob can dance"]} for n in range(20)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda body: ask(address, body=body), bodies))
    for body, (status, answer) in zip(bodies, found, strict=True):
        (wanted,) = model.answer([PredictRequest(**body)])
        assert status == 200
        expected = json.loads(wanted.json)
        assert answer["operating_point"] == expected["operating_point"]
        rows = zip(answer.get("predictions", [answer]), expected.get("predictions", [expected]), strict=True)
        for one, other in rows:
            assert (one["label"], one["exit"]) == (other["label"], other["exit"])
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert ask(address, "/health") == (200, {"status": "ok"})
    assert ask(address, "/info")[1]["operating_points"][0]["name"] == "default"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 422, None),
        ({"pair": PAIR, "speed": 2}, 422, "speed"),
        ({"pair": PAIR, "speedup": 99}, 422, "speedup"),
        ({"text": "a single text"}, 422, "text"),
        ({"texts": [PAIR] * 4}, 413, "texts"),
        (b'{"pair": ["' + b"a" * 2**20 + b'", "b"]}', 413, None),
    ],
)
def test_what_is_wrong_is_refused_as_by_mebert_serve(address, body, status, field):
    found, content = ask(address, body=body)
    assert found == status
    assert content.get("field") == field
    assert "\n" not in content["detail"]
    assert ask(address, "/other")[0] == 404
