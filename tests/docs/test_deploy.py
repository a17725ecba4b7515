"""docs/deploy.md and deploy/: every file, port, path, command and option that they name exists."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

from mebert.cli.main import main
from mebert.commands.serve.command import serve
from mebert.commands.serve.guard import API_KEY, OPEN
from mebert.serving.ray_serve import ReplicaSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
BLOCKS = [list(yaml.safe_load_all(text)) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)]


def fragment(key, value=None):
    """The one fragment of the page that has a key, with this value."""
    (found,) = [one for block in BLOCKS for one in block if key in one and value in (None, one[key])]
    return found


def instruction(name):
    """The rest of the Dockerfile's lines with an instruction, continued lines joined."""
    return re.findall(rf"^{name} (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)


def accepted(words, capsys):
    """Whether the real command line takes these arguments of `serve`: it gets as far as the model, which is none."""
    assert main(["serve", "/no/such/model", *words]) == 2
    return "/no/such/model" in capsys.readouterr().err


def test_dockerfile(capsys):
    entry = json.loads(instruction("ENTRYPOINT")[0])
    assert entry[:5] == ["python", "-m", "mebert", "serve", "/model"]
    assert accepted(entry[5:], capsys)
    assert accepted([], capsys)
    assert not accepted(["--no_such_option", "1"], capsys)
    port = instruction("EXPOSE")[0]
    assert entry[entry.index("--port") + 1] == port == str(serve.port)
    (path,) = re.findall(rf"127\.0\.0\.1:{port}(/\w+)", instruction("HEALTHCHECK")[0])
    assert path in OPEN, "without a key, too"
    kept = {line[1:] for line in (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = {name for line in instruction("COPY") for name in line.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    user = instruction("USER")[0]
    assert int(user) > 0
    assert f"--uid {user}" in DOCKERFILE
    assert sys.version_info[:2] == (3, 11) or "python:3.11-slim" in DOCKERFILE
    for line in re.findall(r"^ +docker (.*)$", PAGE, re.MULTILINE):
        words = shlex.split(line)
        if words[0] == "run":
            assert accepted(words[words.index("mebert-serve") + 1 :], capsys)
        else:
            assert (ROOT / words[words.index("-f") + 1]).is_file()


def test_requirements_are_pinned():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    wanted = re.findall(r"^[\w-]+", (ROOT / "deploy/requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert "onnxruntime" in wanted
    assert [name for name in wanted if f"\n{name}==" not in pins] == []


def test_compose(capsys):
    (service,) = fragment("services")["services"].values()
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert accepted(service["command"], capsys)
    assert service["ports"] == [f"8000:{serve.port}"]
    assert [volume.split(":")[1] for volume in service["volumes"]] == ["/model"]
    assert list(service["environment"]) == [API_KEY]
    assert int(service["stop_grace_period"].removesuffix("s")) > serve.drain


def test_kubernetes(capsys):
    deployment = fragment("kind", "Deployment")
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    assert accepted(container["args"], capsys)
    assert deployment["spec"]["selector"]["matchLabels"] == labels == fragment("kind", "Service")["spec"]["selector"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": serve.port}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[name]["httpGet"]
        assert asked["path"] in OPEN
        assert asked["port"] in ports
    live = container["livenessProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] > serve.drain, "a server that drains is not killed"
    assert pod["spec"]["terminationGracePeriodSeconds"] > serve.drain
    assert [one["name"] for one in container["env"]] == [API_KEY]
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["spec"]["volumes"]}
    assert str(pod["spec"]["securityContext"]["runAsUser"]) == instruction("USER")[0]
    assert fragment("kind", "Service")["spec"]["ports"][0]["targetPort"] in ports
    target = fragment("kind", "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (deployment["kind"], deployment["metadata"]["name"])


def test_ray():
    content = fragment("applications")
    (application,) = content["applications"]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    assert ReplicaSettings(**application["args"]).model == "/models/exported"
    (line,) = re.findall(r"^ +serve run (\S+) (.*)$", PAGE, re.MULTILINE)
    assert line[0] == application["import_path"]
    ReplicaSettings(**dict(word.split("=") for word in line[1].split()))


@pytest.mark.slow
def test_the_server_runs_with_the_packages_of_the_image_alone(in_trained_run, monkeypatch):
    """In an environment that has them and nothing else: no PyTorch, no transformers."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    packages = importlib.import_module("image_size").image_packages()
    assert not packages.keys() & {"torch", "transformers", "lightning", "datasets", "scipy"}
    site = in_trained_run / "site"
    site.mkdir()
    for name in packages:
        one = distribution(name)
        for top in {Path(file).parts[0] for file in one.files if Path(file).parts[0] not in ("..", "__pycache__")}:
            link = site / top
            if not link.exists():
                link.symlink_to(Path(one.locate_file(top)).resolve())
    (site / "mebert").symlink_to(ROOT / "mebert")
    assert main(["export", "runs/tiny/version_0", "--out", "exported", "--samples", "10"]) == 0
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    # -S: without the packages of the interpreter that runs the tests.
    entry = json.loads(instruction("ENTRYPOINT")[0])
    entry[entry.index("/model")] = "exported"
    entry[entry.index("--port") + 1] = port = "18973"
    with subprocess.Popen(
        [sys.executable, "-S", *entry[1:]], env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            for _ in range(240):
                assert server.poll() is None, server.stderr.read()
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                    break
                except OSError:
                    time.sleep(0.5)
            body = json.dumps({"pair": ["anna likes dogs", "anna likes animals"]}).encode()
            headers = {"Content-Type": "application/json"}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, headers)
            assert json.load(urllib.request.urlopen(asked, timeout=20))["label"]
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()
