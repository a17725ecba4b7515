"""Online or offline is found out without asking; a server that cannot be reached costs no run."""

import logging
import os
import re
import shlex
import sys
from types import SimpleNamespace

import pytest
import wandb
from terminal import at_a_terminal
from wandb_file import offline_runs

from mebert import EarlyExitWandbLogger, UserError
from mebert.loggers.account import has_key_in_netrc, why_offline

PUBLIC = "https://api.wandb.ai"


@pytest.fixture
def nobody(here, monkeypatch):
    """No account: an empty home, no variables."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(here))
    settings = SimpleNamespace(mode="online", api_key=None, base_url=PUBLIC)
    monkeypatch.setattr(wandb, "setup", lambda: SimpleNamespace(settings=settings))
    return settings


def test_without_account(nobody):
    assert why_offline() == "no account was found"


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"])
def test_account_in_the_environment(nobody, monkeypatch, name):
    monkeypatch.setenv(name, "a")
    assert why_offline() is None


@pytest.mark.parametrize(("mode", "reason"), [("offline", "as asked"), ("dryrun", "as asked"), ("disabled", None)])
def test_mode_comes_first(nobody, monkeypatch, mode, reason):
    monkeypatch.setenv("WANDB_API_KEY", "a")
    nobody.mode = mode
    assert why_offline() == reason


@pytest.mark.parametrize(
    ("content", "url", "found"),
    [
        ("machine api.wandb.ai login user password abc", PUBLIC, True),
        ("machine api.wandb.ai login user password abc", "https://api.forge.coreweave.com", True),
        ("machine api.wandb.ai login user password abc", "https://wandb.example.org", False),
        ("machine api.wandb.ai login", PUBLIC, False),
        ("nonsense", PUBLIC, False),
        (None, PUBLIC, False),
    ],
)
def test_key_in_netrc(nobody, tmp_path, monkeypatch, content, url, found):
    if content is not None:
        (tmp_path / ".netrc").write_text(content)
        (tmp_path / ".netrc").chmod(0o600)
    assert has_key_in_netrc(url) is found
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert has_key_in_netrc(url) is found, "a file that is not there is no answer"


def test_server_out_of_reach(here, monkeypatch, caplog):
    """The same line as without an account, with the reason; the id that was asked for is kept."""
    monkeypatch.setattr("mebert.loggers.wandb_logger.why_offline", lambda: None)
    start, tried = wandb.init, []

    def init(**settings):
        tried.append(settings)
        if settings.get("mode") != "offline":
            raise wandb.errors.CommError("no route to host\nand more")
        return start(**settings)

    monkeypatch.setattr(wandb, "init", init)
    logger = EarlyExitWandbLogger(id="abc123", init_timeout=7)
    with caplog.at_level(logging.INFO):
        assert logger.experiment.id == "abc123"
    logger.log_metrics({"val/auc": 0.5}, 3)
    logger.end_run()
    assert [settings.get("mode") for settings in tried] == [None, "offline"]
    assert tried[0]["settings"].init_timeout == 7
    (line,) = [line for line in caplog.messages if "wandb sync" in line]
    assert "(the server could not be used: no route to host)" in line
    (found,) = offline_runs(here / "runs")
    assert found.run.run_id == "abc123"
    assert found.summary["val/auc"] == {"max": 0.5}


CODE = """
from mebert import EarlyExitWandbLogger
logger = EarlyExitWandbLogger(init_timeout=1.0)
logger.describe("tiny", "fit", ["recipe"])
logger.log_metrics({"val/auc": 0.25}, 1)
logger.end_run()
"""


@pytest.mark.slow
@pytest.mark.parametrize("key", ["", "a" * 40], ids=["no account", "no server"])
def test_nothing_prompts_hangs_or_fails_at_a_terminal(tmp_path, key):
    """A process of its own whose input, output and errors are a terminal; nobody answers."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    if key:
        environment |= {"WANDB_API_KEY": key, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", CODE]
    code, out = at_a_terminal(command, tmp_path, environment, timeout=150)
    assert code == 0, out
    (folder,) = re.findall(r"wandb sync (\S+)", out)
    (found,) = offline_runs(tmp_path / "runs")
    assert (tmp_path / folder).resolve() == found.folder.resolve()
    assert found.values("val/auc") == [(1, 0.25)]
    if not key:
        assert len(out.strip().splitlines()) == 1, "one line, and nothing of W&B's own"


def test_settings_that_cannot_be(here):
    with pytest.raises(UserError, match="init_timeout must be above 0"):
        EarlyExitWandbLogger(init_timeout=0)
    with pytest.raises(UserError, match=r"tags need 1 to 64 characters"):
        EarlyExitWandbLogger(tags=["x" * 65])


def test_what_the_user_gave_is_kept(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    logger = EarlyExitWandbLogger(job_type="tune", tags=["a", "sst2"])
    logger.describe("exp", "fit", ["Recipe", "sst2", "y" * 70, ""])
    init = logger._wandb_init
    assert init["group"] is None, "the variable's, which W&B reads"
    assert init["job_type"] == "tune"
    assert init["tags"] == ["a", "sst2", "Recipe", "y" * 64]
    assert logger.name == "exp"
    assert shlex.split(str(logger.save_dir)) == ["runs"]
