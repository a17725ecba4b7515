"""The arguments of `serve`: one line for each mistake, before anything starts."""

import socket
import sys

import pytest
from served import free_port

from mebert.cli.main import main
from mebert.errors import UserError


def said(capsys, *args: str) -> str:
    assert main(["serve", *args]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_model_that_is_none(here, capsys):
    assert "model is missing" in said(capsys)
    assert "no such file or folder" in said(capsys, "./nowhere")
    assert "python -m mebert export ." in said(capsys, ".", "--backend", "onnx")


@pytest.fixture
def export(here):
    (here / "manifest.json").write_text("{}", encoding="utf-8")  # what tells an export


def test_a_port_in_use(export, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = said(capsys, ".", "--port", str(port))
    assert f"port {port} of 127.0.0.1: Address already in use" in error
    assert f"--port {port + 1}" in error


def test_of_two_servers_on_one_port_that_start_together_one_has_it():
    from mebert.commands.serve import listening

    port = free_port()
    with listening.bound_socket("127.0.0.1", port) as first, listening.bound_socket("127.0.0.1", port) as second:
        listening.listen(first)
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1: Address already in use; .*--port {port + 1}"):
            listening.listen(second)


def test_a_key_that_is_empty(export, capsys, monkeypatch):
    monkeypatch.setenv("MEBERT_API_KEY", " ")
    assert "MEBERT_API_KEY is set, but empty" in said(capsys, ".", "--port", str(free_port()))


@pytest.mark.parametrize("package", ["litserve", "prometheus_client"])
def test_the_extra_is_named_where_it_is_missing(export, capsys, monkeypatch, package):
    for name in [name for name in sys.modules if name.startswith("mebert.commands.serve.")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(sys.modules["mebert.commands.serve"], name.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert "pip install 'mebert[serve]'" in said(capsys, ".")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("port", "80", "port must be in [1024, 65535], got 80"),
        ("workers", "0", "workers must be in [1, 1024], got 0"),
        ("timeout", "0", "timeout must be in (0, 3600], got 0"),
        ("max_queue", "10", "max_queue must be in [64, 2147483647], got 10"),
        ("batch_wait_ms", "-1", "batch_wait_ms must be in [0, 1000], got -1"),
    ],
)
def test_a_number_that_does_not_fit(capsys, option, value, says):
    assert says in said(capsys, ".", f"--{option}", value)
