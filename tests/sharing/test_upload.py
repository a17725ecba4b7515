"""The upload of a folder: what is replaced and what is refused, and one line for what goes wrong on the way."""

import logging

import pytest
from faults.hub_server import against
from sharing.writable_hub import writable_hub

from mebert.errors import UserError
from mebert.sharing.upload import Target, upload


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "good")
    with writable_hub() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "exits.json").write_text("{}")
    return tmp_path


def send(folder, repo="me/tiny", **settings):
    return upload(folder, Target(repo, **settings), "a model")


def test_replacing_and_refusing_to(hub, folder):
    assert send(folder).endswith("/me/tiny")
    hub.repos["me/tiny"][-1]["old.bin"] = b"of an older model"
    with pytest.raises(UserError, match="exists and holds files: give --update"):
        send(folder)
    with pytest.raises(UserError, match="exists and is public"):
        send(folder, update=True, private=True)
    send(folder, update=True)
    assert len(hub.repos["me/tiny"]) == 3
    assert set(hub.files("me/tiny")) == {".gitattributes", "README.md", "exits.json"}


def test_an_interrupted_push_is_repeated(hub, folder, monkeypatch, capsys):
    hub.fails = {"/commit/": 503}
    with pytest.raises(
        UserError, match=r"out of order \(HTTP 503\); try again later; no part of the model was published"
    ):
        send(folder)
    hub.fails = {}
    with monkeypatch.context() as patched:
        patched.setattr("huggingface_hub.HfApi.create_commit", stopped)
        with pytest.raises(KeyboardInterrupt):
            send(folder)
    assert "give the same command again" in capsys.readouterr().err
    assert set(hub.files("me/tiny")) == {".gitattributes"}
    send(folder)
    assert "exits.json" in hub.files("me/tiny")


def test_the_hub_fails_without_a_word_of_its_library(hub, folder, monkeypatch):
    told, handler = [], logging.Handler()
    handler.emit = told.append
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [handler])
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub.fails = {"preupload": 500}
    with pytest.raises(UserError, match=r"out of order \(HTTP 500\)"):
        send(folder)
    assert not told


def stopped(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("repo", "token", "fails", "says"),
    [
        ("me/tiny", None, {}, r"log in with hf auth login \(or set HF_TOKEN\)"),
        ("me/tiny", "bad", {}, "does not accept the token: log in anew with hf auth login"),
        ("me/tiny", "go\u00e9d", {}, "the token has a character that no token of the Hub has: hf auth login, or set"),
        ("other/tiny", "good", {}, "is that of me, who may not write to other; give one of me/..., lab/..."),
        ("me/tiny", "good", {"/repos/create": 403}, "make one with write access"),
    ],
)
def test_one_line_says_what_to_do(repo, token, fails, says, hub, folder, monkeypatch):
    hub.fails = fails
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=says):
        send(folder, repo)
    assert not hub.repos


def test_a_card_that_the_hub_refuses(hub, folder):
    (folder / "README.md").write_text("---\nlicense: wrong\n---\n")
    with pytest.raises(UserError, match="the Hub refuses the card"):
        send(folder)


def test_a_hub_that_is_not_there(hub, folder):
    with against(None), pytest.raises(UserError, match="cannot be reached; check the network and HF_ENDPOINT; no part"):
        send(folder)
