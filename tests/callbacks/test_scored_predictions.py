"""`predict` on a file with labels prints the metrics; other columns stand beside the answers. The real command line."""

import json
import math
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from runs import newest, read_csv, run, text_experiment, write_config, write_rows
from sklearn.metrics import accuracy_score, f1_score

from mebert.metrics.task import metric_value
from mebert.report.prediction_score import PredictionScore

WORDS = ["the", "cat", "dog", "sat", "ran", "good", "bad"]
ROWS = [
    {"text": f"the {('cat', 'dog')[i % 2]} {('sat', 'ran', 'good')[i % 3]}", "label": ("no", "yes")[i % 2]}
    for i in range(24)
]
FILE = [{"id": 100 + i, "when": f"day {i}", **row} for i, row in enumerate(ROWS)]
FILE[3] = FILE[3] | {"label": ""}
COMMON = ("predict", "--config", "tiny.yaml", "--ckpt_path", "best")


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = text_experiment(folder, {"train": ROWS, "validation": ROWS}, WORDS, metrics=["acc", "f1"])
        settings["trainer"]["max_epochs"] = 1
        settings["test_after_fit"] = False
        write_config(folder, settings)
        assert run("fit", "--config", "tiny.yaml") == 0
        yield folder


def rows_of(path):
    path = Path(path)
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".tsv":
        header, *lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
        return [dict(zip(header, line, strict=True)) for line in lines]
    return read_csv(path)


@pytest.mark.parametrize("streaming", ["true", "false"])
@pytest.mark.parametrize("suffix", ["csv", pytest.param("tsv", marks=pytest.mark.slow), "jsonl", "parquet"])
def test_labels_are_scored_and_columns_carried(text_run, suffix, streaming, capsys):
    given, out = write_rows(text_run / f"my.{suffix}", FILE), f"{streaming}.{suffix}"
    own = ["--data.predict_file", given, "--data.streaming", streaming, "--data.id_columns", "[id,when,label]"]
    assert run(*COMMON, *own, "--out", out) == 0
    printed = capsys.readouterr().out
    rows = rows_of(out)
    assert list(rows[0])[:5] == ["index", "id", "when", "input_label", "text"]
    kinds = {row["id"] for row in rows}
    assert kinds == {100 + i if suffix in ("jsonl", "parquet") else str(100 + i) for i in range(24)}
    for row, wanted in zip(rows, FILE, strict=True):
        assert (row["when"], row["input_label"], row["text"]) == (wanted["when"], wanted["label"], wanted["text"])
    pairs = [(row["input_label"], row["label"]) for row in rows if row["input_label"]]
    true, predicted = zip(*pairs, strict=True)
    acc, f1 = accuracy_score(true, predicted), f1_score(true, predicted, pos_label="yes", zero_division=0)
    assert re.search(rf"metric +acc {acc:.4f}, f1 {f1:.4f} on the 23 of 24 rows with a label\n", printed)


def test_without_labels_nothing_is_said_and_a_strange_one_stops_nothing(text_run, capsys):
    bare = write_rows(text_run / "bare.csv", [{"text": row["text"]} for row in ROWS])
    assert run(*COMMON, "--data.predict_file", bare, "--out", "bare_out.csv") == 0
    assert "metric" not in capsys.readouterr().out
    assert list(rows_of("bare_out.csv")[0]) == ["index", "text", "label", "prob_no", "prob_yes", "exit"]
    odd = write_rows(text_run / "odd.csv", [*ROWS[:5], {"text": "the cat", "label": "maybe"}])
    assert run(*COMMON, "--data.predict_file", odd, "--out", "odd_out.csv") == 0
    assert "not measured: row 6: label 'maybe' is none of the classes no, yes" in capsys.readouterr().out
    assert len(rows_of("odd_out.csv")) == 6


@pytest.mark.parametrize("streaming", ["true", "false"])
def test_a_column_that_is_not_there(text_run, streaming, capsys):
    given = write_rows(text_run / "my.csv", FILE)
    own = ["--data.predict_file", given, "--data.streaming", streaming, "--data.id_columns", "[idd]"]
    assert run(*COMMON, *own) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "has no column 'idd'; its columns: id, when, text, label; did you mean 'id'?" in error


def test_values_that_parquet_cannot_hold(text_run, capsys):
    rows = [{"id": i if i else [1], "text": "the cat"} for i in range(3)]
    given = write_rows(text_run / "mixed.jsonl", rows)
    own = ["--data.predict_file", given, "--data.id_columns", "[id]"]
    assert run(*COMMON, *own, "--out", "mixed.parquet") == 2
    assert "data.id_columns: the column 'id' holds values of several kinds" in capsys.readouterr().err
    for name in ("mixed_out.jsonl", "mixed_out.csv"):
        assert run(*COMMON, *own, "--out", name) == 0
    assert [row["id"] for row in rows_of("mixed_out.jsonl")] == [[1], 1, 2]
    assert [row["id"] for row in rows_of("mixed_out.csv")] == ["[1]", "1", "2"]


def test_the_own_test_file_is_scored_too(text_run, capsys):
    given = write_rows(text_run / "test.csv", FILE)
    assert run(*COMMON, "--data.test_file", given, "--data.id_columns", "[id]") == 0
    assert "on the 23 of 24 rows with a label" in capsys.readouterr().out
    assert rows_of(newest(text_run) / "predictions.csv")[5]["id"] == "105"


def test_values_and_rankings_are_scored_as_in_a_test():
    """Chunk by chunk, against the metric of all rows; a question without a right answer does not count."""
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 2), torch.randint(0, 2, (30,))
    questions = [f"q{i // 6}" for i in range(30)]
    labels[:6] = 0
    score = PredictionScore(["map", "mrr", "acc"], ["0", "1"], "question")
    values = PredictionScore(["pearson", "spearman"], ["score"])
    probabilities = logits.softmax(-1)
    for part in (slice(0, 11), slice(11, 30)):
        table = {"label": [str(int(c)) for c in logits[part].argmax(-1)], "question": questions[part]}
        table |= {f"prob_{c}": probabilities[part, c].tolist() for c in range(2)}
        score.add([str(int(label)) for label in labels[part]], table)
        values.add([str(float(label)) for label in labels[part]], {"score": logits[part, 0].tolist()})
    numbers = torch.tensor([int(q[1:]) - 1 for q in questions])
    for name, value in score.values().items():
        assert value == pytest.approx(metric_value(name, logits, labels, numbers))
    assert list(score.values()) == ["map", "mrr", "acc"]
    for name, value in values.values().items():
        assert value == pytest.approx(metric_value(name, logits[:, :1], labels.float()))
        assert not math.isnan(value)
