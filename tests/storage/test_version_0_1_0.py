"""A run and a model folder that mebert 0.1.0 wrote give what 0.1.0 gave with them (fixtures/v0_1_0)."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from runs import newest, run

import mebert
from mebert.cli.main import main
from mebert.storage.model_spec import ModelSpec

FIXTURE = Path(__file__).parents[1] / "fixtures/v0_1_0/run"
COMMON = ["--config", "run/config.yaml", "--ckpt_path", "run/checkpoints/best.ckpt"]
PAIRS = [
    ("all cats are animals", "some cats sleep"),
    ("kurt can dive", "kurt opposes dora  dora matches ben  ben cannot dive"),
    ("lena can run", "dora can climb  lena cannot dance"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the run, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(FIXTURE, tmp_path / "run")


def numbers(content):
    """All numbers of nested values, without wall-clock times and the intervals of speed-ups, which 0.1.0 had not."""
    if isinstance(content, dict):
        content = [value for key, value in content.items() if not key.startswith(("speedup_wall", "speedup_interval"))]
    if isinstance(content, list):
        return [number for value in content for number in numbers(value)]
    return [content] if isinstance(content, int | float) else []


def test_test(folder):
    assert run("test", *COMMON) == 0
    before, after = (json.loads((run / "evaluation.json").read_text()) for run in (folder, newest(folder.parent)))
    default = {"operating_point", "leaving"}  # chosen anew by its drop, on the pass that the checkpoint keeps
    for key in sorted(before.keys() - {"checkpoint", "wall_setting", "best_policy"} - default):
        assert numbers(after[key]) == pytest.approx(numbers(before[key]), abs=1e-5), key


@pytest.mark.parametrize(
    ("asked", "exits"),
    [
        (["--max_drop", "0.05"], "11112111111111112111111111111111111111111"),
        (["--speedup", "1.3"], "21222122222212212122222122222222122222122"),
        (["--speedup", "1.5", "--engine", "predicted"], "21221111121212212121222112212121121112112"),
    ],
)
def test_predict(asked, exits, folder):
    assert run("predict", *COMMON, *asked, "--out", "out.csv") == 0
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert "".join(row["exit"] for row in rows) == exits
    if asked[1] == "1.3":
        assert "".join(row["label"][0] for row in rows) == "eeeneneeeneeeeeneeeeeeeneeeeeeeeeeneneeee"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [("neutral", 1, 0.3650), ("entailment", 1, 0.4156), ("neutral", 1, 0.4451)]),
        ({"speedup": 1.3}, [("entailment", 2, 0.3542), ("entailment", 2, 0.4353), ("neutral", 2, 0.3872)]),
        ({"max_drop": 0.3}, [("neutral", 1, 0.3650), ("entailment", 1, 0.4156), ("neutral", 1, 0.4451)]),
        (
            {"policy": "entropy", "speedup": 1.5},
            [("entailment", 2, 0.3542), ("entailment", 1, 0.4156), ("neutral", 2, 0.3872)],
        ),
    ],
)
def test_classifier(asked, found):
    classifier = mebert.EarlyExitClassifier.from_pretrained(FIXTURE, device="cpu", precision="float32")
    predictions = classifier(PAIRS, **asked)
    assert [(p.label, p.exit) for p in predictions] == [(label, number) for label, number, _ in found]
    assert [max(p.probabilities.values()) for p in predictions] == pytest.approx([p for _, _, p in found], abs=2e-4)


def test_calibrate(folder):
    before = json.loads((folder / "model/exits.json").read_text())
    asked = ["--speedup", "1.4", "--max_drop", "0.02"]
    assert main(["calibrate", "--model", "run", "--split", "val", "--precision", "float32", *asked]) == 0
    after = json.loads((folder / "model/exits.json").read_text())
    assert after["operating_points"]["edr"].pop("1.4") == pytest.approx(0.937849, abs=1e-5)
    assert after["max_drops"]["edr"].pop("0.02") == pytest.approx(0.995114, abs=1e-5)
    after.pop("mebert_version", None)
    found = [one["threshold"] for one in after.pop("expected")["edr"]]
    assert found == pytest.approx([0.937849, 0.995114], abs=1e-5)
    assert after == before, "all other values stay as 0.1.0 wrote them"


def test_compare_and_inspect(folder, capsys):
    assert main(["compare", "run", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["value"][:8] for row in rows] == ["0.463414", "0.463414", "0.487804", ""]
    assert float(rows[0]["area"]) == pytest.approx(0.464307, abs=1e-5)
    arguments = ["--pair", *PAIRS[0], "--speedup", "1.2", "--samples", "20", "--precision", "float32"]
    assert main(["inspect", "run", *arguments, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["policy"]["threshold"] == pytest.approx(0.7805438, abs=1e-6)
    assert (found["texts"][0]["answer"], found["texts"][0]["exit"]) == ("entailment", 2)
    assert found["texts"][0]["exits"][0]["score"] == pytest.approx(0.9979, abs=1e-4)


def test_texts_are_read_as_before_with_one_notice(folder, caplog, tmp_path):
    """Not known: its length. `[SEP]` in a text is the token, as it was when the model was trained."""
    with caplog.at_level("INFO"):
        classify = mebert.EarlyExitClassifier.from_pretrained(folder, device="cpu", precision="float32")
        assert classify.max_length == 32
        assert caplog.text.count("saved without the length of its training texts") == 1
        one, other = (
            classify((text, "ben can dive"), threshold=0.0) for text in ("anna can [SEP] swim", "anna can swim")
        )
    assert one.probabilities != pytest.approx(other.probabilities, abs=1e-6)
    typed = classify.text_encoder().encode([("anna can [SEP] swim", "ben can dive")])["input_ids"][0]
    assert typed.count(classify.tokenizer.sep_token_id) == 3
    assert caplog.text.count("saved without") == 1


def test_unknown_values_survive(folder):
    path = folder / "model/exits.json"
    values = json.loads(path.read_text()) | {"of_a_recipe": {"a": [1, 2.5]}}
    path.write_text(json.dumps(values))
    with ModelSpec.change(path.parent) as spec:
        spec.max_length = 32
    after = json.loads(path.read_text())
    after.pop("mebert_version", None)
    assert after == values | {"max_length": 32}
