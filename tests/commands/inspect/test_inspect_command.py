"""`python -m mebert inspect` from end to end on trained runs: what it prints, writes and refuses."""

import json
import re
import shlex
import shutil
from itertools import accumulate

import matplotlib.image
import pytest

import mebert
from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.commands.inspect.command import InspectSettings
from mebert.commands.inspect.run import inspect_model
from mebert.commands.inspect.source import open_model
from mebert.commands.inspect.tokens import view_tokens
from mebert.commands.inspect.trace import trace_texts
from mebert.data.loaders import open_split
from mebert.data.model_rows import run_data
from mebert.exit_predictor import fit_predictor
from mebert.policies.base import LOOSEST
from mebert.storage.model_spec import ModelSpec
from mebert.storage.thresholds import threshold_text

from .conftest import saved

FAST = ["--device", "cpu", "--precision", "float32"]
PAIR = ["all cats are animals", "some cats sleep"]
EVIL = "<script>alert(1)</script>"


def inspect(*args):
    return main(["inspect", *map(str, args), *FAST])


def test_a_checkpoint_a_run_and_a_model_folder_say_the_same(proto_run, capsys):
    said = []
    for what in (proto_run, proto_run / "model", proto_run / "checkpoints/best.ckpt"):
        assert inspect(what, "--pair", *PAIR) == 0
        said.append(capsys.readouterr().out)
    tables = [text[text.index("1. ") : text.index("Next:")] for text in said]
    assert tables[0] == tables[1] == tables[2]
    assert "all cats are animals | some cats sleep" in tables[0]
    words = ["prediction", "confidence", "entropy", "prototype", "distance", "ratio", "edr score", "GFLOPs", "speed-up"]
    assert [word for word in words if word not in tables[0]] == []
    classify = EarlyExitClassifier.from_pretrained(proto_run, device="cpu", precision="float32")
    answer = classify(tuple(PAIR))
    assert f"leaves at exit {answer.exit} of 3 as {answer.label}" in tables[0]
    assert f"the policy takes exit {answer.exit}" in tables[0]
    later = 3 - answer.exit
    assert tables[0].count("would predict") == later
    assert "\x1b" not in said[0], "no colours where there is no terminal"


def test_what_it_says_next_works(proto_run, capsys, tmp_path, monkeypatch):
    assert inspect("--model", proto_run, "--pair", *PAIR, "--threshold", "0.3") == 0
    lines = capsys.readouterr().out
    commands = dict(re.findall(r"^  (\w+) +python -m mebert (.*)$", lines[lines.index("Next:") :], flags=re.MULTILINE))
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(commands["page"]), *FAST]) == 0
    assert (tmp_path / "report.html").exists()
    assert "Next (predict): python -m mebert predict" in capsys.readouterr().out
    (tmp_path / "my.csv").write_text("hypothesis,premise\nanna likes dogs,anna likes cats\n", encoding="utf-8")
    assert main(shlex.split(commands["predict"])) == 0
    assert (tmp_path / "out.csv").exists()


def test_token_view(geep_run, capsys, monkeypatch):
    assert inspect(geep_run, "--pair", *PAIR, "--pair", "no dog is red", "a dog is red") == 0
    said = capsys.readouterr().out
    assert said.count("Predicted layer of each token by itself") == 2
    assert re.search(r"\[CLS\]_\d all_\d\?? ", said), "the layer is readable without colours"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert inspect(geep_run, "--pair", *PAIR) == 0
    assert re.search(r"\x1b\[[\d;]*48;", capsys.readouterr().out), "a token has a background"


def test_the_predicted_exit_follows_from_the_tokens(geep_run):
    classify = EarlyExitClassifier.from_pretrained(geep_run, device="cpu", precision="float32")
    texts = [tuple(PAIR), ("no dog is red", "a dog is red"), ("zebra", "not known")]
    pair = [part for text in texts for part in text]
    found = inspect_model(InspectSettings(str(geep_run), pair=pair, device="cpu", precision="float32"))
    predicted = [answer.exit for answer in classify(texts, engine="predicted")]
    assert [view.exit for view in found.views] == predicted
    for view in found.views:
        exits = len(view.distribution)
        mean = [sum(note.distribution[e] for note in view.tokens) / len(view.tokens) for e in range(exits)]
        assert view.distribution == pytest.approx(mean, abs=1e-6), "special tokens count like any other"
        for note, shares in [*((note, note.distribution) for note in view.tokens), (view, mean)]:
            enough = (e for e, covered in enumerate(accumulate(shares), start=1) if covered >= view.coverage)
            assert note.exit == next(enough, exits)
        assert [note.special for note in view.tokens].count(True) == 3
    unknown = [note for note in found.views[2].tokens if note.text == "[UNK]"]
    assert unknown
    assert not any(note.special or note.counted for note in unknown), "it stands for a word, of which nothing is known"


def test_another_threshold_has_no_predictor_and_says_which_have(geep_run, capsys):
    assert inspect(geep_run, "--pair", *PAIR, "--threshold", "0.123") == 0
    said = capsys.readouterr().out
    assert "Note: No token view: no exit predictor for entropy at threshold 0.123 (stored: entropy" in said
    assert "Predicted" not in said


def test_a_threshold_close_to_1_is_not_written_as_1(proto_run, capsys):
    assert inspect(proto_run, "--pair", "anna likes dogs", "anna likes animals", "--threshold", "0.9999996") == 0
    printed = capsys.readouterr().out
    assert "threshold 0.9999996" in printed
    assert " < 0.9999996" in printed
    assert [threshold_text(at) for at in (0.5, 0.99996, 1.0, LOOSEST)] == ["0.5", "0.99996", "1", "1.0000001"]


@pytest.mark.parametrize("kind", ["linear", "static"])
def test_other_predictors(geep_run, kind):
    opened = open_model(str(geep_run), "cpu", "float32")
    rows = open_split(run_data(str(geep_run / "model"), opened.model), "val")
    policy = opened.classifier.choose_policy()
    predictor = fit_predictor(opened.model, policy.with_threshold(policy.threshold).bind(opened.model), rows, kind=kind)
    (trace,) = trace_texts(opened, policy, [tuple(PAIR)])
    view = view_tokens(opened, predictor.bind(opened.classifier.model), trace)
    assert sum(view.distribution) == pytest.approx(1.0, abs=1e-5)
    alone = {note.exit for note in view.tokens}
    if kind == "linear":
        assert alone == {None}
    else:
        buckets = [int(predictor.buckets[token]) + 1 for token in trace.input_ids]
        assert [note.exit for note in view.tokens] == buckets


def test_json(proto_run, capsys):
    assert inspect(proto_run, "--pair", *PAIR, "--speedup", "1.2", "--format", "json", "--samples", "20") == 0
    found = json.loads(capsys.readouterr().out)
    stored = ModelSpec.read(proto_run / "model").operating_points["edr"][1.2]
    assert found["policy"] == {"name": "edr", "threshold": pytest.approx(stored)}
    assert len(found["samples"]["texts"]) == 20
    (text,) = found["texts"]
    assert text["text"] == PAIR
    assert text["exits"][text["exit"] - 1]["decision"] == "leaves here"
    assert len(text["predicted"]["tokens"]) == text["tokens"]
    assert [len(space["points"]) for space in found["spaces"]] == [20, 20, 20]
    assert [space["mark_kind"] for space in found["spaces"]] == ["prototypes", "prototypes", "class means"]


def test_picture_and_page(proto_run, tmp_path, capsys):
    for name in ("deep/report.png", "report.html"):
        assert inspect(proto_run, "--pair", EVIL, "b", "--out", tmp_path / name) == 0
        assert f"Written: {tmp_path / name}" in capsys.readouterr().out
    assert matplotlib.image.imread(tmp_path / "deep/report.png").std() > 0.05
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | b" in page
    assert page.count('class="chart"') == 3
    assert "60 rows of the run, val" in page


def test_what_a_file_holds_is_escaped(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved("model", 2, mebert.Entropy(0.6), label_names=["no", EVIL])
    (tmp_path / "own.csv").write_text(f"text,label\n{EVIL} w1,no\nw2 w3,{EVIL}\nw4,no\nw5,no\n", encoding="utf-8")
    assert inspect("model") == 2
    assert "there is nothing to look at: give --text, or rows by --task or --file" in capsys.readouterr().err
    arguments = ["model", "--text", "w1 w2", "--file", "own.csv"]
    assert inspect(*arguments, "--out", "report.html") == 0
    assert EVIL not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert inspect(*arguments, "--out", "report.svg") == 0, "a label that is no mathematics and no tag"
    capsys.readouterr()
    assert inspect(*arguments) == 0
    said = capsys.readouterr().out
    assert "What each exit sees: 4 rows of own.csv" in said
    assert "mebert predict model my.csv --out out.csv" in said


def test_a_regression_and_texts_alone(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved("model", 1, mebert.ValueChange(0.4))
    (tmp_path / "own.csv").write_text("text,label\n" + "".join(f"w{i},{i / 3}\n" for i in range(30)), encoding="utf-8")
    for out in ("report.png", "report.html", "report.json"):
        assert inspect("model", "--text", "w1 w2", "--text", "w3", "--file", "own.csv", "--out", out) == 0
        assert (tmp_path / out).stat().st_size > 5000
    found = json.loads((tmp_path / "report.json").read_text())
    assert isinstance(found["texts"][0]["answer"], float)
    assert found["spaces"][0]["mark_kind"] == "none"
    assert '"showscale":true' in (tmp_path / "report.html").read_text(), "the colours say the value"
    capsys.readouterr()
    assert inspect("model", "--text", "w1 w2", "--out", "alone.html") == 0
    assert "no rows beside the texts: they alone span the planes" in (tmp_path / "alone.html").read_text()


def test_data_that_is_gone_does_not_hide_the_texts(proto_run, tmp_path, capsys):
    shutil.copytree(proto_run, tmp_path / "run")
    (tmp_path / "run/config.yaml").write_text("data: {class_path: mebert.NoSuchModule}\n", encoding="utf-8")
    assert inspect(tmp_path / "run", "--pair", *PAIR, "--out", tmp_path / "report.html") == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no rows of the run beside the texts" in page
    assert inspect(tmp_path / "run") == 2
    assert "mebert.NoSuchModule" in capsys.readouterr().err, "without a text there is nothing else to show"
    shutil.rmtree(tmp_path / "run/model")
    assert inspect(tmp_path / "run", "--pair", *PAIR) == 2
    assert "has its weights in the model folder of its run" in capsys.readouterr().err
    assert inspect(tmp_path / "run/checkpoints/last.ckpt", "--pair", *PAIR) == 2
    assert "has no tokenizer beside it" in capsys.readouterr().err, "this encoder has no name on the Hub either"
