"""`push`: what is uploaded, what the card says, and what goes wrong on the way; the Hub is one of this process."""

import json
import re
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
from mebert.sharing.card import model_card
from mebert.sharing.facts import CardFacts, Training

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

    card, test = card_of(files), json.loads(Path(RUN, "evaluation.json").read_text())
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "mebert", "text-classification")
    assert data.get("base_model") is None, "random weights"
    assert data.eval_results[0].metric_type == "accuracy"
    assert data.eval_results[0].metric_value == round(test["full_model"]["metric"], 4)
    assert data.eval_results[0].metric_name == "accuracy, full depth"
    for part in ("DE3-BERT: joint training", "arxiv.org/abs/2402.05948", "built-in entailment task", "curve.png"):
        assert part in card.text
    low, high = test["full_model"]["interval"]
    assert any(f"{low:.{digits}f} to {high:.{digits}f}" in card.text for digits in (2, 3, 4))
    assert 'classify(("anna likes dogs", "anna likes animals"))' in card.text, "words that its tokenizer knows"
    assert "| entailment |" in card.text
    assert "mebert serve me/tiny" in card.text
    assert "pipeline" in card.text


def collected(*args):
    """The card of what would be uploaded, and all of its bytes."""
    shutil.rmtree("out", ignore_errors=True)
    pushed(*args, "--out", "out")
    files = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    return card_of(files), b"".join(files.values())


def test_figures_of_other_operating_points_than_the_tested_ones_are_marked(hub, in_trained_run, capsys):
    spec = json.loads(Path(RUN, "model/exits.json").read_text())
    stored = spec["operating_points"]["edr"]
    spec["policy"]["init_args"]["threshold"], stored["2"] = 0.987654, 0.876543
    one = spec["expected"]["edr"][0]
    other = one | {"threshold": 0.876543, "speedup": 2.2, "data": "the run, val"}
    spec["expected"]["edr"] += [one | {"threshold": 0.987654, "data": "/home/me/secret rows.csv"}, other]
    Path(RUN, "model/exits.json").write_text(json.dumps(spec))
    card, content = collected(RUN, "me/tiny")
    tested, _, untested = card.text.partition("Not tested, since chosen after the test")
    assert "| default |" not in tested
    assert "| 2x |" not in tested
    assert "| default | no setting |" in untested
    assert "| 2x | `speedup=2` |" in untested
    assert "speedup=2)  # 2.20x by layers on validation data" in card.text
    assert "2 chosen since have figures of validation rows alone" in capsys.readouterr().out
    assert not re.search(rb"secret|/home/me|the run", content)


def test_before_a_test_and_without_a_run(hub, in_trained_run, capsys):
    Path(RUN, "evaluation.json").unlink()
    card, _ = collected(RUN, "me/tiny")
    assert "**Not tested.** The run that trained it has not been tested." in card.text
    assert "Expected on validation rows, on which thresholds were chosen" in card.text
    assert "| default | no setting |" in card.text
    assert card.data.eval_results is None
    assert card.data.license is None
    assert "*to be filled in*: none was given" in card.text
    assert "--license NAME" in capsys.readouterr().out


@pytest.mark.slow
def test_a_model_without_its_run(hub, in_trained_run):
    shutil.copytree(f"{RUN}/model", "alone")
    pushed("alone", "lab/alone")
    assert "pushed without the run that trained it" in card_of(hub.files("lab/alone")).text


def test_own_rows_stay_here(hub, in_trained_run):
    config = yaml.safe_load(Path(RUN, "config.yaml").read_text())
    config["data"] = {"class_path": "mebert.TextDataModule", "init_args": {"train_file": "/home/me/customers.csv"}}
    config["model"]["class_path"] = "my_recipes.Mine"
    config["model"]["init_args"] |= {"encoder_config": None, "encoder": "acme/secret", "teacher": "/home/me/teacher"}
    Path(RUN, "config.yaml").write_text(yaml.safe_dump(config))
    Path(RUN, "model", "tokenizer_customers.csv").touch()
    card, content = collected(RUN, "me/tiny")
    assert card.data.get("base_model") is None, "a folder, for all that is known here"
    assert "rows of the author's own" in card.text
    assert "- recipe: `Mine`\n" in card.text
    assert b"/home/me" not in content
    assert b"customers" not in content
    assert b"secret" not in content
    assert not list(Path("out").glob("*customers*"))
    spec = json.loads(Path(RUN, "model/exits.json").read_text())
    Path(RUN, "model/exits.json").write_text(json.dumps(spec | {"base_model": "org/name"}))
    assert collected(RUN, "me/tiny")[0].data.base_model == "org/name"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((RUN, "tiny"), "repo 'tiny' must be user/name"),
        ((RUN, "me/a b"), "repo 'me/a b' is no name for the Hub"),
        ((RUN, "me/tiny", "--license", "My Licence"), "give one such as apache-2.0"),
        ((RUN, "me/tiny", "--onnx", "nowhere"), "onnx nowhere is no exported model"),
        ((RUN,), "repo is missing"),
        (("unfinished", "me/tiny"), "--ckpt_path unfinished/checkpoints/last.ckpt"),
        (("someone/tiny", "me/tiny"), "is on the Hub; push takes a run"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_one_line_says_what_to_do(args, says, hub, in_trained_run, capsys):
    Path("unfinished").mkdir()
    shutil.copy(f"{RUN}/config.yaml", "unfinished")
    hub.repos["someone/tiny"] = [{"exits.json": Path(RUN, "model/exits.json").read_bytes()}]
    pushed(*args, status=2)
    error = capsys.readouterr().err.splitlines()
    assert [line for line in error if line.startswith("mebert: error:")] == [error[-1]]
    assert says in error[-1]
    assert "me/tiny" not in hub.repos


def test_nothing_is_uploaded_with_out(hub, in_trained_run, capsys):
    config = yaml.safe_load(Path(RUN, "config.yaml").read_text())
    config["data"] = {"class_path": "mebert.TextDataModule", "init_args": {"task": "sst2"}}
    Path(RUN, "config.yaml").write_text(yaml.safe_dump(config))
    with against(None):
        pushed(RUN, "me/tiny", "--out", "pushed", "--private")
    assert hub.repos == {}
    assert f"python -m mebert push {RUN} me/tiny --private\n" in capsys.readouterr().out
    assert "licence of the data: *to be filled in*" in Path("pushed/README.md").read_text()
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
    assert f"export it again, python -m mebert export {RUN}; or remove" in capsys.readouterr().err
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


def test_labels_with_markup_are_plain_text():
    names = ["<script>x</script>", "a|b\n# c: d", "`q` 'r' \"s\"", "[x](http://y)", "$$e$$ @me :smile:", "---"]
    rows = [{"label": name, "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 9} for name in names]
    test = {
        "split": names[1],
        "samples": 45,
        "metric": "acc",
        "full_model": {"metric": 0.8444, "interval": [0.7111, 0.9555], "speedup_layers": 1.0},
        "operating_points": {},
        "per_class": {"full_depth": {"classes": rows}},
    }
    trained = Training(names[2], names[1], names[0], {"head": names[1]}, names[1], names[1], None, names[0], False)
    spec = tiny_model(num_labels=6, label_names=names).spec()
    facts = CardFacts("me/tiny", spec, names[1], evaluation=test, training=trained)
    card = ModelCard(model_card(facts))
    assert card.data.eval_results[0].dataset_name == names[1]
    assert r"\<script\>x\</script\>, a\|b" in card.text
    assert r"\`q\` 'r' " in card.text
    assert r"\[x\](http\://y), \$\$e\$\$ \@me \:smile:" in card.text
    assert not re.search(r"<script>|^# c|[^\\]\|b", card.text, re.MULTILINE)
    assert "| 0.84 | 0.71 to 0.96 |" in card.text, "no more digits than 45 rows have"
    assert "Few rows: one of 45 is 0.022" in card.text
    assert 'text = input("Text: ")' in card.text, "an example of which no word is known to the tokenizer"
