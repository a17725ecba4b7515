"""Models of the Hub: a revision, a token, and no files but those that are needed."""

import io
import re
import sys

import pytest
from sharing.writable_hub import writable_hub
from tiny import save_tokenizer, tiny_model

from mebert import EarlyExitClassifier, Entropy, MultiExitModel
from mebert.cli.main import main
from mebert.errors import UserError
from mebert.models.cascade import CascadeModel
from mebert.storage.hub_folder import model_folder

WORDS = ["good", "fine", "great", "bad", "awful", "poor", "the", "film", "was", "a", "plot", "and", "cast"]
TORCH = {
    "config.json",
    "exits.json",
    "exits.safetensors",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A saved model by file name, and what else a repository has."""
    folder = tmp_path_factory.mktemp("saved")
    tiny_model().save_pretrained(folder, policy=Entropy(0.3))
    save_tokenizer(folder, WORDS)
    more = {"README.md": b"# card", "curve.png": b"png", "onnx/manifest.json": b"{}", "onnx/embed.onnx": b"graph"}
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")} | more


@pytest.fixture
def hub(files):
    with writable_hub() as hub:
        hub.repos["me/tiny"] = [files, {"README.md": b"all else was removed"}]
        hub.repos["me/whole"] = [files]
        yield hub


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_only_what_is_needed_is_fetched(hub, monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    classify = EarlyExitClassifier.from_pretrained("me/whole")
    assert hub.downloads() == TORCH
    assert not terminal.getvalue().strip(), "no bar for small files"
    assert classify("a good film").exit in (1, 2, 3)
    EarlyExitClassifier.from_pretrained("me/whole")
    assert hub.downloads() == set(), "the cache has them"
    with pytest.raises(UserError, match="damaged"):
        EarlyExitClassifier.from_pretrained("me/whole", backend="onnx")
    assert hub.downloads() == {"onnx/manifest.json", "onnx/embed.onnx"}


def test_a_slow_download_shows_one_bar(hub, monkeypatch):
    bars = sys.modules["huggingface_hub.utils.tqdm"]  # which a command of another test has told to show none
    monkeypatch.setattr(bars, "are_progress_bars_disabled", lambda name=None: False)
    monkeypatch.setattr("mebert.storage.download_bar.SECONDS", 0.01)
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    hub.delay = 0.2
    model_folder("me/whole")
    shown = [line for line in re.split(r"[\r\n]|\x1b\[A", terminal.getvalue()) if line.strip()]
    assert shown
    assert all(line.startswith("Fetching: ") for line in shown)


def test_a_revision_is_opened(hub):
    first = hub.oid("me/tiny", 0)
    for open_model in (MultiExitModel.from_pretrained, EarlyExitClassifier.from_pretrained):
        assert open_model("me/tiny", revision=first).exit_layers == (1, 2, 3)
        assert open_model(f"me/tiny@{first}").exit_layers == (1, 2, 3)
        with pytest.raises(UserError, match=r"there is no exits\.json in it"):
            open_model("me/tiny")
        with pytest.raises(UserError, match=r"no such revision .* one of its branches, tags or commits"):
            open_model("me/tiny", revision="v9")
        with pytest.raises(UserError, match="both name a revision"):
            open_model("me/tiny@v1", revision="v2")
        with pytest.raises(UserError, match="is a folder here; leave it out"):
            open_model(".", revision="v2")


def test_a_private_model_needs_a_token(hub):
    hub.private.add("me/whole")
    with pytest.raises(UserError, match="needs a login"):
        EarlyExitClassifier.from_pretrained("me/whole", token=False)
    assert EarlyExitClassifier.from_pretrained("me/whole", token="good").exit_layers == (1, 2, 3)


def test_commands_take_an_id_with_a_revision(hub, here, capsys):
    name = f"me/tiny@{hub.oid('me/tiny', 0)}"
    assert main(["predict", name, "--text", "a good film"]) == 0
    assert "exit" in capsys.readouterr().out
    (here / "rows.csv").write_text("text,label\na good film,LABEL_0\nbad,LABEL_1\n")
    assert main(["test", name, "rows.csv"]) == 0
    assert main(["calibrate", name, "rows.csv", "--max_drop", "0.1"]) == 2
    assert "is on the Hub, where nothing can be stored" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cascade_is_opened(hub, tmp_path):
    model = CascadeModel([tiny_model(), tiny_model()])
    model.save_pretrained(tmp_path, policy=Entropy(0.3))
    save_tokenizer(tmp_path, WORDS)
    hub.repos["me/both"] = [{str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("[a-z]*.*")}]
    assert EarlyExitClassifier.from_pretrained("me/both").exit_layers == (3, 6)
