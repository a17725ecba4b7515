"""What goes wrong on the way from the Hub is told in one line."""

from __future__ import annotations

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from mebert.data.tokenised import load_tokenizer
from mebert.errors import UserError
from mebert.storage.hub import hub_errors


def http_error(kind, status):
    response = httpx.Response(status, request=httpx.Request("GET", "http://hub.test/x"))
    return kind(f"{status} for url", response=response)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("refused"), "the Hub at http://hub.test cannot be reached.*HF_ENDPOINT"),
        (httpx.ConnectError("refused"), "cannot be reached"),
        (OSError("We couldn't connect to 'http://hub.test' to load the files"), "cannot be reached"),
        (http_error(RepositoryNotFoundError, 404), "nor a repository at http://hub.test.*spelling"),
        (OSError("x is not a local folder and is not a valid model identifier"), "nor a repository"),
        (http_error(HfHubHTTPError, 503), r"the Hub at http://hub.test is overloaded .*HTTP 503"),
        (httpx.RemoteProtocolError("peer closed connection"), "broke off .*peer closed"),
        (ValueError("Unrecognized model in x\nmore"), "the files are not usable .*Unrecognized model in x"),
    ],
)
def test_errors_are_told_and_kept_as_the_cause(error, message, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.test")
    with pytest.raises(UserError, match=f"cannot load model 'x': .*{message}") as caught, hub_errors("model 'x'"):
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)


def test_the_reason_is_looked_for_behind_the_error(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.test")
    error = OSError("Can't load the configuration of 'x'")
    error.__cause__ = http_error(HfHubHTTPError, 503)
    with pytest.raises(UserError, match="overloaded"), hub_errors("model 'x'"):
        raise error


def test_other_errors_pass():
    with pytest.raises(UserError, match=r"^mine$"), hub_errors("model 'x'"):
        raise UserError("mine")
    with pytest.raises(TypeError), hub_errors("model 'x'"):
        raise TypeError("a fault of the program")


def test_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(UserError, match="cannot load the tokenizer"):
        load_tokenizer(str(tmp_path))
