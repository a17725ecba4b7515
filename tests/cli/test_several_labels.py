"""Rows of several labels through the command line: training, test, prediction, calibration, and a look inside."""

import csv
import json
import random

import pytest
import yaml
from runs import newest, run, text_experiment, write_config, write_rows
from sklearn.metrics import f1_score, multilabel_confusion_matrix

import mebert
from mebert.cli.main import main
from mebert.inference import EngineName

TOPICS = {"food": ["soup", "bread"], "law": ["court", "judge"], "sport": ["ball", "team"]}
FILLERS = ["the", "a", "of", "and"]
WORDS = [*FILLERS, *(word for words in TOPICS.values() for word in words)]
RUN = "runs/tiny/version_0"

pytestmark = pytest.mark.slow  # a training, and its tests; what is fast is beside the parts that it tests


def rows(count, seed=0):
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        labels = [name for name in TOPICS if draw.random() < 0.4]
        words = [draw.choice(TOPICS[name]) for name in labels for _ in range(2)] + draw.choices(FILLERS, k=3)
        draw.shuffle(words)
        found.append({"text": " ".join(words), "label": ",".join(labels)})
    return found


def as_lists(given):
    return [row | {"label": [name for name in row["label"].split(",") if name]} for row in given]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on CSV cells such as `food,law`."""
    folder = tmp_path_factory.mktemp("several") / "own"
    folder.mkdir()
    splits = {"train": rows(160), "validation": rows(64, 1), "test": rows(60, 2)}
    settings = text_experiment(folder, splits, WORDS, label_separator=",")
    settings["model"]["init_args"] |= {"learning_rate": 2e-2, "pooling": "mean"}
    settings["trainer"]["max_epochs"] = 8
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_config(folder, settings)
        assert run("fit", "--config", "tiny.yaml") == 0
    return folder


@pytest.fixture
def inside(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def test_fit_measures_the_f1_of_the_labels_and_stores_what_they_are(inside):
    found = json.loads((newest(inside) / "evaluation.json").read_text(encoding="utf-8"))
    spec = json.loads((inside / RUN / "model/exits.json").read_text(encoding="utf-8"))
    assert found["metric"] == "f1_micro"
    assert found["exits"][-1]["f1_micro"] > 0.7
    assert found["oracle"] is None
    assert "stacked" not in found["policies"]
    assert "patience" in found["policies"]
    assert (spec["problem_type"], spec["label_separator"]) == ("multi_label_classification", ",")
    assert spec["label_names"] == list(TOPICS)
    assert spec["chosen_by"] == "max_drop 0.005"
    config = json.loads((inside / RUN / "model/config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "multi_label_classification"
    report = (newest(inside) / "report.md").read_text(encoding="utf-8")
    assert "Per label" in report
    assert "Confusion" not in report


def test_the_report_of_each_label_is_that_of_scikit_learn(inside):
    assert main(["predict", RUN, "test.csv", "--speedup", "1", "--out", "full.csv"]) == 0
    with open("full.csv", newline="", encoding="utf-8") as file:
        said = [row["labels"].split(",") for row in csv.DictReader(file)]
    true, predicted = (
        [[name in row for name in TOPICS] for row in sets]
        for sets in ([row["label"].split(",") for row in rows(60, 2)], said)
    )
    found = json.loads((newest(inside) / "evaluation.json").read_text(encoding="utf-8"))
    full = found["per_class"]["full_depth"]
    assert full["confusion_matrix"] == multilabel_confusion_matrix(true, predicted).tolist()
    assert [one["f1"] for one in full["classes"]] == pytest.approx(f1_score(true, predicted, average=None).tolist())
    for name in ("micro", "macro"):
        expected = f1_score(true, predicted, average=name, zero_division=0)
        assert found["exits"][-1][f"f1_{name}"] == pytest.approx(expected)


@pytest.mark.parametrize("engine", ["shrink", "refill"])
def test_every_engine_gives_the_labels_of_full(inside, engine: EngineName):
    classify = mebert.EarlyExitClassifier.from_pretrained(RUN, precision="float32")
    texts = [row["text"] for row in rows(60, 2)]
    for policy in ("entropy", "max_prob", "margin", "patience", "pcee", "f_pabee", "voting"):
        one, other = (
            classify(texts, policy=policy, threshold=0.4, engine=name, batch_size=7) for name in ("full", engine)
        )
        assert [(p.labels, p.exit) for p in one] == [(p.labels, p.exit) for p in other]
    found = classify(texts[0])
    assert found.label is None
    assert set(found.probabilities) == set(TOPICS)
    assert found.labels == tuple(name for name, share in found.probabilities.items() if share > 0.5)


def test_predictions_are_parted_as_in_training_and_lists_in_jsonl(inside, capsys):
    write_rows(inside / "lists.jsonl", as_lists(rows(60, 2)))
    assert main(["predict", RUN, "lists.jsonl", "--out", "out.jsonl"]) == 0
    assert "column 'label': f1_micro" in capsys.readouterr().err
    lists = [json.loads(line) for line in (inside / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert main(["predict", RUN, "test.csv", "--out", "out.csv"]) == 0
    with open("out.csv", newline="", encoding="utf-8") as file:
        texts = list(csv.DictReader(file))
    assert [",".join(row["labels"]) for row in lists] == [row["labels"] for row in texts]
    assert all(f"prob_{name}" in texts[0] for name in TOPICS)
    config = ["--config", f"{RUN}/config.yaml", "--ckpt_path", f"{RUN}/checkpoints/best.ckpt"]
    assert run("predict", *config, "--data.predict_file", "test.csv", "--predictions.path", "own.parquet") == 0
    import pyarrow.parquet as pq

    table = pq.read_table("own.parquet")
    assert table["labels"].to_pylist() == [row["labels"] for row in lists]
    capsys.readouterr()
    assert main(["predict", RUN, "--precision", "float32", "--out", "own.csv"]) == 0
    known = json.loads((inside / RUN / "evaluation.json").read_text(encoding="utf-8"))["operating_point"]["metric"]
    assert f"column 'label': f1_micro {known:.4f}" in capsys.readouterr().err
    assert main(["predict", RUN, "--text", "the court of the judge", "--text", "the of"]) == 0
    law, none = capsys.readouterr().out.splitlines()[-2:]
    assert law.startswith("law (0.")
    assert none.startswith("none of the labels (the nearest: ")


def test_compare_shows_the_labels(inside, capsys):
    assert main(["compare", RUN, RUN, "--out", "both.html"]) == 0
    page = (inside / "both.html").read_text(encoding="utf-8")
    assert "Per class" in page
    assert "confusion matrix, a row" not in page


def test_test_and_calibrate_on_a_file(inside, capsys):
    assert main(["test", RUN, "test.csv"]) == 0
    assert "f1_micro" in capsys.readouterr().out
    assert run("test", RUN) == 0
    capsys.readouterr()
    asked = ["--max_drop", "0.01", "--epsilon", "0.1", "--delta", "0.2", "--save", "false"]
    assert main(["calibrate", RUN, "--policies", "[entropy,scaled]", *asked]) == 0
    said = capsys.readouterr().out
    assert "as a share of all labels of all samples" in said
    assert "mistakes ≤ 0.1" in said


def test_inspect_shows_the_labels_of_every_exit(inside, capsys):
    assert main(["inspect", RUN, "--text", "the court of the judge", "--file", "test.csv", "--out", "seen.json"]) == 0
    seen = json.loads((inside / "seen.json").read_text(encoding="utf-8"))
    assert seen["texts"][0]["answer"] == ["law"]
    assert set(seen["texts"][0]["exits"][0]["probabilities"]) == set(TOPICS)
    for out in ("seen.html", "seen.png"):
        assert main(["inspect", RUN, "--text", "the judge", "--file", "test.csv", "--out", out]) == 0
    assert main(["inspect", RUN, "--text", "the court of the judge"]) == 0
    assert "law" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--model", "ProtoExitModule"],
            "needs the one class of a row, and here a row may have several labels; take Mult",
        ),
        (["--model.class_weights", "balanced"], "class_weights (balanced) weighs rows by their one class"),
        (["--model.policy", "mebert.Stacked"], "the policy 'stacked' reads the one class of a row"),
        (["--model.policy", "mebert.DistanceRatio"], "take another, for example 'entropy'"),
        (["--data.metrics", "[f1]"], "the metric 'f1' is not for rows of several labels; give f1_micro, f1_macro, acc"),
        (["--data.regression", "true"], "regression is for numbers, and these rows have several labels"),
        (["--data.query_column", "text"], "ranks by one label, and these rows have several"),
        (["--data.label_separator", ""], "label_separator is empty"),
        (["--data.labels", "[food, law]"], "label 'sport' is none of the labels food, law"),
    ],
)
def test_what_has_no_meaning_for_several_labels_is_refused_in_one_line(inside, capsys, words, said):
    assert run("fit", "--config", "tiny.yaml", *words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert said in line


def test_a_file_of_lists_needs_no_setting(here, hf_cache, caplog):
    """Also in the short form; a null is not labelled, an empty list has none of the labels."""
    given = [*as_lists(rows(60)), {"text": "the ball", "label": None}]
    write_rows(here / "own.jsonl", given)
    settings = text_experiment(here, {}, WORDS, train_file="own.jsonl", holdout=0.3)
    settings["trainer"]["max_epochs"] = 1
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    none = sum(not row["label"] for row in given[:-1])
    told = caplog.text
    assert "1 of 61 rows left out, without a label" in told
    assert f"{none} of 60 rows have none of the labels" in told
    config = yaml.safe_load((here / RUN / "config.yaml").read_text(encoding="utf-8"))["data"]["init_args"]
    assert config["labels"] == list(TOPICS)
    assert config["label_separator"] == ","
    assert main(["test", RUN, "own.jsonl"]) == 0
    write_rows(here / "text.csv", rows(20))
    assert main(["test", RUN, "text.csv"]) == 0
