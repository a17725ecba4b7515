"""Tokens and passwords of the environment stand in no file that a run writes and in nothing that it prints."""

from pathlib import Path

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError
from runs import experiment, run, write_config

import mebert.cli.main
from mebert.errors import UserError
from mebert.storage.hub import hub_errors

ROOT = Path(__file__).parents[2]
SECRETS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567",
    "HUGGING_FACE_HUB_TOKEN": "hf_ZyXwVuTsRqPoNmLkJiHgFeDcBa76543210",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "A_PASSWORD": "endpoint-password",
}
ENDPOINT = f"http://a-reader:{SECRETS['A_PASSWORD']}@127.0.0.1:9"


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_ENDPOINT", ENDPOINT)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def leaks(folder):
    """Which files hold which secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), [
        (str(p), name) for p in files for name, value in SECRETS.items() if value.encode() in p.read_bytes()
    ]


@pytest.mark.slow
def test_no_file_of_a_run_holds_one(environment, capfd, caplog):
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    settings["curve"] = {"wall_samples": 0, "policies": ["entropy"]}
    write_config(environment, settings)
    overlay = str(ROOT / "configs/logger/wandb.yaml")
    assert run("fit", "--config", "tiny.yaml", "--config", overlay) == 0
    study = ["study", "--config", str(ROOT / "configs/study/quick.yaml"), "--out", "studies", "--list", "true"]
    assert mebert.cli.main.main(study) == 0
    count, found = leaks(environment)
    assert count > 20
    assert found == []
    assert any(environment.rglob("*.wandb")), "W&B's own files are among them"
    assert any(environment.rglob("config.yaml"))
    assert any(environment.rglob("model/exits.json"))
    printed = "".join(capfd.readouterr()) + caplog.text
    assert not any(value in printed for value in SECRETS.values())


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused"),
        httpx.ConnectError(f"cannot reach {ENDPOINT}/api"),
        HfHubHTTPError(
            f"503 for {ENDPOINT}/api/x", response=httpx.Response(503, request=httpx.Request("GET", ENDPOINT))
        ),
        OSError(f"{ENDPOINT}/x is not a valid model identifier"),
        ValueError(f"bad answer of {ENDPOINT}"),
    ],
)
def test_errors_of_the_hub_name_the_address_without_the_password(error, environment):
    with pytest.raises(UserError, match=r"http://\*\*\*@127\.0\.0\.1:9") as caught, hub_errors("model 'x'"):
        raise error
    assert SECRETS["A_PASSWORD"] not in str(caught.value)
    assert "a-reader" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://a:b@c.d/e?f=g@h", "see https://***@c.d/e?f=g@h"),
        ("https://token@c.d and ftp://u:p@x/", "https://***@c.d and ftp://***@x/"),
        ("http://a:p@ss@c.d", "http://***@c.d"),
        ("https://c.d/@user and mail a@b.c", "https://c.d/@user and mail a@b.c"),
    ],
)
def test_userinfo_of_addresses(text, shown):
    assert str(UserError(text)) == shown
