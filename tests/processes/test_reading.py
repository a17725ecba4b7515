"""Texts are read in one way from training to every command: length, tokenizer settings, rows, names of columns."""

import contextlib
import json
import random
import shutil
from pathlib import Path

import pytest
import yaml
from runs import read_csv, run, text_experiment, write_rows
from transformers import AutoTokenizer

from mebert import EarlyExitClassifier, MultiExitModel
from mebert.cli.main import main

WORDS = ["good", "bad", "film", "Good", "Bad", "Film", "the", "a", "[", "]", "se", "##p", "SE", "##P"]
LENGTH = 12
RUN = "runs/tiny/version_0"
SETTINGS = {"max_length": LENGTH, "do_lower_case": False, "truncation_side": "left"}


def text(seed, words=30):
    """Longer than `LENGTH`, upper and lower case, with a special token typed in it."""
    generator = random.Random(seed)
    return " ".join(generator.choice([*WORDS[:8], "[SEP]"]) for _ in range(words))


TEXTS = [text(seed) for seed in range(40)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on single texts with settings of its own; `plain.yaml` has none of them."""
    folder = tmp_path_factory.mktemp("reading")
    rows = [{"text": text(seed), "label": ["no", "yes"][seed % 2]} for seed in range(100, 148)]
    settings = text_experiment(folder, {"train": rows, "validation": rows[:20], "test": rows[:20]}, WORDS)
    own = settings["data"]["init_args"]
    del own["max_length"]
    own["labels"] = ["no", "yes"]
    settings["model"]["init_args"]["learning_rate"] = 0.03  # scores of texts are far from each other
    settings["curve"]["points"] = [1.2, 1.5]
    (folder / "plain.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    own |= SETTINGS
    (folder / "own.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with contextlib.chdir(folder):
        assert run("fit", "--config", "own.yaml", "--test_after_fit", "false") == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch, hf_cache):
    shutil.copytree(trained, tmp_path / "reading")
    monkeypatch.chdir(tmp_path / "reading")
    return tmp_path / "reading"


def expected(folder, texts):
    """The last exit's probabilities by transformers and PyTorch alone."""
    tokenizer = AutoTokenizer.from_pretrained(
        folder / "tokenizer", do_lower_case=False, truncation_side="left", split_special_tokens=True
    )
    model, found = MultiExitModel.from_pretrained(folder / RUN / "model"), []
    for one in texts:
        inputs = tokenizer(one, truncation=True, max_length=LENGTH, return_tensors="pt")
        found.append(model.last_exit(**inputs).softmax(-1)[0].tolist())
    return found


def predict(*arguments, out="out.csv", threshold="0"):
    given = ["predict", "--config", "plain.yaml", "--ckpt_path", "best", "--predictions.threshold", threshold]
    assert run(*given, *arguments, "--out", out) == 0


def probabilities(rows):
    return [[float(row["prob_no"]), float(row["prob_yes"])] for row in rows]


def test_every_reader_reads_as_in_training(here, capsys):
    spec = json.loads((here / RUN / "model/exits.json").read_text())
    assert (spec["max_length"], spec["num_texts"]) == (LENGTH, 1)
    wanted = [pytest.approx(one, abs=1e-4) for one in expected(here, TEXTS)]
    write_rows(here / "rows.csv", [{"text": one} for one in TEXTS])
    for streaming in ("false", "true"):
        predict("--data.predict_file", "rows.csv", "--data.streaming", streaming)
        assert probabilities(read_csv("out.csv")) == wanted
    folder = here / RUN
    classify = EarlyExitClassifier.from_pretrained(folder, device="cpu", precision="float32")
    assert classify.max_length == LENGTH
    assert [list(one.probabilities.values()) for one in classify(TEXTS, threshold=0.0)] == wanted
    capsys.readouterr()
    for opened in (folder / "model", folder / "checkpoints/best.ckpt"):
        asked = ["--text", *TEXTS[:3], "--threshold", "0", "--precision", "float32", "--format", "json"]
        assert main(["inspect", str(opened), *asked, "--samples", "2"]) == 0
        found = json.loads(capsys.readouterr().out)["texts"]
        assert [list(one["exits"][-1]["probabilities"].values()) for one in found] == wanted[:3]
        assert {one["tokens"] for one in found} == {LENGTH}


def test_calibrate_and_bench_read_as_in_training(here, capsys):
    folder = here / RUN
    rows = [{"text": one, "label": ["no", "yes"][i % 2]} for i, one in enumerate(TEXTS)]
    file = write_rows(here / "labelled.csv", rows)

    def threshold(*arguments):
        command = [
            "calibrate",
            str(folder),
            "--speedup",
            "1.3",
            "--device",
            "cpu",
            "--precision",
            "float32",
            *arguments,
        ]
        assert main(command) == 0
        spec = json.loads((folder / "model/exits.json").read_text())
        return next(iter(spec["operating_points"].values()))["1.3"]

    assert threshold("--file", file) == threshold("--file", file, "--max_length", str(LENGTH))
    assert threshold("--file", file) != threshold("--file", file, "--max_length", "30")
    config = folder / "config.yaml"
    own = yaml.safe_load(config.read_text())
    before = threshold()
    for name in SETTINGS:
        own["data"]["init_args"][name] = None
    config.write_text(yaml.safe_dump(own))
    assert threshold() == before, "the model's own settings"
    small = ["--samples", "8", "--rounds", "1", "--batch_sizes", "[4]", "--precisions", "[float32]", "--device", "cpu"]
    small += ["--engines", "[shrink]", "--baselines", "[unsorted]"]
    assert main(["bench", "--model", str(folder), "--texts", file, *small, "--speedups", "1.2", "--out", "b"]) == 0
    assert f"to {LENGTH})" in json.loads((here / "b/bench.json").read_text())["setting"]["texts"]


def test_another_reading_is_told(here):
    write_rows(here / "rows.csv", [{"text": one} for one in TEXTS[:4]])
    told = r"max_length is 20, but the model was trained and its thresholds chosen with 12; leave out data.max_length"
    with pytest.warns(UserWarning, match=told):
        predict("--data.predict_file", "rows.csv", "--data.max_length", "20")
    write_rows(here / "pairs.csv", [{"text": one, "b": "good film"} for one in TEXTS[:4]])
    with pytest.warns(
        UserWarning, match=r"all inputs \(100 %\) are pairs of texts, but the model was trained on single"
    ):
        predict("--data.predict_file", "pairs.csv", "--data.text_pair_column", "b")
    classify = EarlyExitClassifier.from_pretrained(here / RUN, device="cpu", precision="float32")
    with pytest.warns(UserWarning, match=r"all inputs \(100 %\) are pairs of texts"):
        classify([("good", "film")])
    with pytest.warns(UserWarning, match=r"2 of 4 texts \(50 %\) are empty or blank, the first at input 2"):
        classify(["good", "", "film", "  "])
    with pytest.warns(UserWarning, match=r"1 of 3 texts \(33.3 %\) are mostly unknown tokens, the first at input 3"):
        classify(["good film 人", "the film", "人 不 film"])
    write_rows(here / "unknown.jsonl", [{"text": "gut 人"}, {"text": "a good film"}])
    for streaming in ("false", "true"):
        with pytest.warns(UserWarning, match=r"1 of 2 texts \(50 %\) are mostly unknown tokens, the first at .*line 1"):
            predict("--data.predict_file", "unknown.jsonl", "--data.streaming", streaming)


def test_another_vocabulary_is_refused(here, capsys):
    from tiny import save_tokenizer

    write_rows(here / "rows.csv", [{"text": one} for one in TEXTS[:4]])
    other = save_tokenizer(here / "other", WORDS[::-1])
    command = ["predict", "--config", "plain.yaml", "--ckpt_path", "best", "--data.predict_file", "rows.csv"]
    assert run(*command, "--data.tokenizer", other, "--out", "out.csv") == 2
    assert "has another vocabulary than the one that the model was trained with" in capsys.readouterr().err
    assert not Path("out.csv").exists()


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize("streaming", ["false", "true"])
def test_blank_lines_of_one_column_are_rows(name, streaming, here):
    lines = ["text", "good film", "", "bad film", "  ", "the film", "", ""]
    (here / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"2 of 5 texts \(40 %\) are empty or blank, the first at .*, line 3"):
        predict("--data.predict_file", name, "--data.streaming", streaming)
    rows = read_csv("out.csv")
    assert [row["text"].strip() for row in rows] == ["good film", "", "bad film", "", "the film"]
    assert probabilities(rows) == [pytest.approx(one, abs=1e-4) for one in expected(here, lines[1:6])]


@pytest.mark.parametrize(
    ("kind", "column"), [("csv", "label"), ("tsv", "exit"), ("jsonl", "index"), ("parquet", "prob_yes")]
)
def test_columns_of_the_input_are_never_overwritten(kind, column, here):
    import pyarrow.parquet as pq

    read = {
        "csv": read_csv,
        "jsonl": lambda path: [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()],
        "parquet": lambda path: pq.read_table(path).to_pylist(),
    }
    out = kind if kind in read else "csv"
    write_rows(here / f"rows.{kind}", [{column: one} for one in TEXTS[:3]])
    predict("--data.predict_file", f"rows.{kind}", "--data.text_column", column, out=f"out.{out}")
    rows = read[out](f"out.{out}")
    assert [row[f"input_{column}"] for row in rows] == TEXTS[:3]
    assert [int(row["index"]) for row in rows] == [0, 1, 2]
    assert {row["label"] for row in rows} <= {"no", "yes"}
    assert {int(row["exit"]) for row in rows} == {3}
    assert probabilities(rows) == [pytest.approx(one, abs=1e-4) for one in expected(here, TEXTS[:3])]
