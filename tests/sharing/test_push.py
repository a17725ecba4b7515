"""`push`: what is uploaded, what the card says, and what goes wrong on the way; the Hub is one of this process."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from faults.hub_server import against
from huggingface_hub import ModelCard
from sharing.writable_hub import writable_hub
from tiny import tiny_model, words_tokenizer

from mebert import EarlyExitClassifier, Entropy
from mebert.cli.main import main
from mebert.errors import UserError

RUN = "runs/tiny/version_0"
PAIR = ("anna likes dogs", "anna likes animals")


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "good")
    with writable_hub() as hub:
        yield hub


def pushed(*args, status=0):
    assert main(["push", *args]) == status


def card_of(files):
    return ModelCard(files["README.md"].decode())


def test_a_run_is_pushed_and_opened_from_an_empty_cache(hub, in_trained_run, capsys):
    pushed(RUN, "me/tiny", "--license", "apache-2.0", "--private")
    printed = capsys.readouterr().out
    assert "me/tiny (private)" in printed
    assert "predict me/tiny" in printed
    assert hub.private == {"me/tiny"}
    assert len(hub.repos["me/tiny"]) == 2, "all of it is one commit"
    files = hub.files("me/tiny")
    wanted = {*("config.json", "exits.json", "exits.safetensors", "model.safetensors", "README.md", "curve.png")}
    assert set(files) == wanted | {".gitattributes", "tokenizer.json", "tokenizer_config.json"}
    here = str(in_trained_run).encode()
    assert not [name for name, content in files.items() if here in content or b"runs/tiny" in content]

    hub.requests.clear()
    fetched, own = EarlyExitClassifier.from_pretrained("me/tiny"), EarlyExitClassifier.from_pretrained(RUN)
    assert hub.downloads() == set(files) - {"README.md", "curve.png", ".gitattributes"}
    assert fetched(PAIR) == own(PAIR)
    assert fetched.operating_point == own.operating_point


def test_the_card_says_what_the_run_knows(hub, in_trained_run):
    pushed(RUN, "me/tiny", "--license", "mit")
    card, test = card_of(hub.files("me/tiny")), json.loads(Path(RUN, "evaluation.json").read_text())
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "mebert", "text-classification")
    assert data.get("base_model") is None, "random weights"
    assert data.eval_results[0].metric_type == "accuracy"
    assert data.eval_results[0].metric_value == round(test["full_model"]["metric"], 4)
    assert len(data.eval_results) == card.text.count("` | ") + card.text.count("| default |")
    for part in ("DE3-BERT: joint training", "arxiv.org/abs/2402.05948", "built-in entailment task", "curve.png"):
        assert part in card.text
    low, high = test["full_model"]["interval"]
    assert f"{low:.4f} to {high:.4f}" in card.text
    assert "| entailment |" in card.text
    assert "mebert serve me/tiny" in card.text
    assert "pipeline" in card.text


def test_another_operating_point_than_the_tested_one_is_not_given_its_figures(hub, in_trained_run):
    spec = json.loads(Path(RUN, "model/exits.json").read_text())
    spec["policy"]["init_args"]["threshold"] = 0.987654
    spec["expected"]["edr"][0] |= {"threshold": 0.987654, "data": "/home/me/secret rows.csv"}
    Path(RUN, "model/exits.json").write_text(json.dumps(spec))
    pushed(RUN, "me/tiny")
    text = card_of(hub.files("me/tiny")).text
    assert "| default |" not in text
    assert "This default was chosen after the test" in text
    assert "0.9877 (default)" in text
    assert b"secret" not in b"".join(hub.files("me/tiny").values())


def test_before_a_test_and_without_a_run(hub, in_trained_run, capsys):
    Path(RUN, "evaluation.json").unlink()
    pushed(RUN, "me/tiny")
    card = card_of(hub.files("me/tiny"))
    assert "**Not tested.** The run that trained it has not been tested." in card.text
    assert "Expected, on rows on which thresholds were chosen" in card.text
    assert card.data.eval_results is None
    assert card.data.license is None
    assert "*to be filled in*: none was given" in card.text
    assert "--license NAME" in capsys.readouterr().out
    shutil.copytree(f"{RUN}/model", "alone")
    pushed("alone", "lab/alone")
    assert "pushed without the run that trained it" in card_of(hub.files("lab/alone")).text


def test_own_rows_stay_here(hub, in_trained_run):
    config = yaml.safe_load(Path(RUN, "config.yaml").read_text())
    config["data"] = {"class_path": "mebert.TextDataModule", "init_args": {"train_file": "/home/me/customers.csv"}}
    config["model"]["class_path"] = "my_recipes.Mine"
    config["model"]["init_args"] |= {"encoder_config": None, "encoder": "org/name", "teacher": "/home/me/teacher"}
    Path(RUN, "config.yaml").write_text(yaml.safe_dump(config))
    pushed(RUN, "me/tiny")
    card = card_of(hub.files("me/tiny"))
    assert card.data.base_model == "org/name"
    assert "rows of the author's own" in card.text
    assert "- recipe: `Mine`\n" in card.text
    assert "/home/me" not in card.content
    assert "customers" not in card.content


def test_replacing_and_refusing_to(hub, in_trained_run, capsys):
    pushed(RUN, "me/tiny")
    hub.repos["me/tiny"][-1]["old.bin"] = b"of an older model"
    pushed(RUN, "me/tiny", status=2)
    assert "exists and holds files: give --update" in capsys.readouterr().err
    pushed(RUN, "me/tiny", "--update", "--private", status=2)
    assert "exists and is public" in capsys.readouterr().err
    pushed(RUN, "me/tiny", "--update")
    assert len(hub.repos["me/tiny"]) == 3
    assert "old.bin" not in hub.files("me/tiny")


def test_an_interrupted_push_is_repeated(hub, in_trained_run, capsys):
    hub.fails = {"/commit/": 503}
    pushed(RUN, "me/tiny", status=2)
    error = capsys.readouterr().err
    assert "overloaded or out of order (HTTP 503)" in error
    assert "no part of the model was published" in error
    assert set(hub.files("me/tiny")) == {".gitattributes"}
    hub.fails = {}
    pushed(RUN, "me/tiny")
    assert "exits.json" in hub.files("me/tiny")


@pytest.mark.parametrize(
    ("args", "token", "fails", "says"),
    [
        ((RUN, "me/tiny"), None, {}, "log in with hf auth login (or set HF_TOKEN)"),
        ((RUN, "me/tiny"), "bad", {}, "does not accept the token: log in anew with hf auth login"),
        ((RUN, "other/tiny"), "good", {}, "is that of me, who may not write to other; give one of me/..., lab/..."),
        ((RUN, "me/tiny"), "good", {"/repos/create": 403}, "make one with write access"),
        ((RUN, "tiny"), "good", {}, "repo 'tiny' must be user/name"),
        ((RUN, "me/a b"), "good", {}, "repo 'me/a b' is no name for the Hub"),
        ((RUN, "me/tiny", "--license", "My Licence"), "good", {}, "give one such as apache-2.0"),
        ((RUN, "me/tiny", "--license", "wrong"), "good", {}, "the Hub refuses the card"),
        ((RUN, "me/tiny", "--onnx", "nowhere"), "good", {}, "onnx nowhere is no exported model"),
        ((RUN,), "good", {}, "repo is missing"),
        (("unfinished", "me/tiny"), "good", {}, "--ckpt_path unfinished/checkpoints/last.ckpt"),
        (("someone/tiny", "me/tiny"), "good", {}, "is on the Hub; push takes a run"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_one_line_says_what_to_do(args, token, fails, says, hub, in_trained_run, monkeypatch, capsys):
    Path("unfinished").mkdir()
    shutil.copy(f"{RUN}/config.yaml", "unfinished")
    hub.repos["someone/tiny"] = [{"exits.json": Path(RUN, "model/exits.json").read_bytes()}]
    hub.fails = fails
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    pushed(*args, status=2)
    error = capsys.readouterr().err.splitlines()
    assert [line for line in error if line.startswith("mebert: error:")] == [error[-1]]
    assert says in error[-1]
    assert not any("exits.json" in files for files in hub.repos.get(args[-1], []))


def test_a_hub_that_is_not_there(hub, in_trained_run, monkeypatch, capsys):
    config = yaml.safe_load(Path(RUN, "config.yaml").read_text())
    config["data"] = {"class_path": "mebert.TextDataModule", "init_args": {"task": "sst2"}}
    Path(RUN, "config.yaml").write_text(yaml.safe_dump(config))
    with against(None):
        pushed(RUN, "me/tiny", "--out", "pushed")
        assert "licence of the data: *to be filled in*" in Path("pushed/README.md").read_text()
        pushed(RUN, "me/tiny", status=2)
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert "cannot be reached; check the network and HF_ENDPOINT; no part of the model was published" in error[0]


def test_nothing_is_uploaded_with_out(hub, in_trained_run, capsys):
    pushed(RUN, "me/tiny", "--out", "pushed")
    assert hub.repos == {}
    assert (Path("pushed/README.md").read_text()).startswith("---\n")
    assert EarlyExitClassifier.from_pretrained("pushed").exit_layers == (1, 2, 3)
    pushed(RUN, "me/tiny", "--out", "pushed", status=2)
    assert "out pushed is not empty" in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_goes_beside_the_weights(hub, in_trained_run, capsys):
    spec = json.loads(Path(RUN, "model/exits.json").read_text())
    for one in spec["expected"]["edr"]:
        one["data"] = "secret.csv"
    Path(RUN, "model/exits.json").write_text(json.dumps(spec))
    assert main(["export", RUN]) == 0
    pushed(RUN, "me/tiny")
    files, places = hub.files("me/tiny"), (str(Path.cwd()), "site-packages", "mebert/models")
    graphs = {name: content for name, content in files.items() if name.endswith(".onnx")}
    assert not [name for name, content in graphs.items() if any(one.encode() in content for one in places)]
    assert "secret" not in files["onnx/manifest.json"].decode()
    hub.requests.clear()
    fetched = EarlyExitClassifier.from_pretrained("me/tiny", backend="onnx")
    assert hub.downloads() == {name for name in files if name.startswith("onnx/")}
    assert fetched(PAIR).exit == EarlyExitClassifier.from_pretrained(RUN, precision="float32")(PAIR).exit
    card = card_of(files)
    assert "onnx" in card.data.tags
    assert "python model/onnx/runner.py" in card.text
    assert main(["predict", "me/tiny", "--pair", *PAIR, "--backend", "onnx"]) == 0
    spec["operating_points"]["edr"] = {"2": 0.123}  # as calibrate changes them
    Path(RUN, "model/exits.json").write_text(json.dumps(spec))
    capsys.readouterr()
    pushed(RUN, "me/tiny", "--update", status=2)
    assert f"export it again, python -m mebert export {RUN} --precision float32; or remove" in capsys.readouterr().err
    assert main(["export", RUN, "--precision", "float32"]) == 0
    pushed(RUN, "me/tiny", "--update")


def test_a_model_is_pushed_from_python(hub):
    model = tiny_model()
    with pytest.raises(UserError, match="must be user/name"):
        model.push_to_hub("tiny", words_tokenizer())
    url = model.push_to_hub("me/tiny", words_tokenizer(), Entropy(0.3), license="mit", max_length=32)
    assert url.endswith("/me/tiny")
    card = card_of(hub.files("me/tiny"))
    assert "**Not tested.**" in card.text
    assert 'pipeline("text-classification", model="me/tiny")' in card.text
    assert EarlyExitClassifier.from_pretrained("me/tiny").operating_point.threshold == 0.3


def test_labels_with_markup_are_plain_text(hub, tmp_path):
    model = tiny_model(label_names=["<b>bold</b>", "a|b", "[x](http://y)"])
    model.push_to_hub("me/tiny", words_tokenizer(), Entropy(0.3))
    text = card_of(hub.files("me/tiny")).text
    assert r"\<b\>bold\</b\>, a\|b, \[x\](http://y)" in text
