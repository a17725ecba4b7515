"""`predict --format glue`: every file of a submission, read strictly, through the command line."""

import csv
import re
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from runs import newest, run

from mebert.data.tasks import TASKS
from mebert.report.glue_files import GLUE_FILES, write_glue_files
from mebert.storage.checkpoints import read_checkpoint

WORDS = ["a", "the", "cat", "dog", "sat", "ran", "on", "mat", "bad", "good", "film", "movie"]
NLI = {"entailment": "entailment", "neutral": "neutral", "contradiction": "contradiction"}
PAIRED = {"entailment": "entailment", "not_entailment": "not_entailment"}
# What the server reads, from its own description: file, split, and the word for each of our label names.
EXPECTED = {
    "cola": ({"CoLA.tsv": "test"}, {"unacceptable": "0", "acceptable": "1"}),
    "sst2": ({"SST-2.tsv": "test"}, {"negative": "0", "positive": "1"}),
    "mrpc": ({"MRPC.tsv": "test"}, {"not_equivalent": "0", "equivalent": "1"}),
    "qqp": ({"QQP.tsv": "test"}, {"not_duplicate": "0", "duplicate": "1"}),
    "stsb": ({"STS-B.tsv": "test"}, {}),
    "mnli": ({"MNLI-m.tsv": "test_matched", "MNLI-mm.tsv": "test_mismatched"}, NLI),
    "qnli": ({"QNLI.tsv": "test"}, PAIRED),
    "rte": ({"RTE.tsv": "test"}, PAIRED),
    "wnli": ({"WNLI.tsv": "test"}, {"not_entailment": "0", "entailment": "1"}),
    "ax": ({"AX.tsv": "test"}, NLI),
}


def texts_of(task, split, number):
    """Texts of different lengths, so that batches are not in the order of the rows."""
    generator = torch.Generator().manual_seed(number + sum(map(ord, task.name + split)))
    length = 1 + int(torch.randint(9, (1,), generator=generator))
    words = [WORDS[i] for i in torch.randint(len(WORDS), (length,), generator=generator).tolist()]
    return {column: " ".join(words[: length - place]) or "a" for place, column in enumerate(task.text_columns)}


def serve(task):
    """A small stand-in for the Hub's copy of a GLUE task: hidden test labels, own numbers in each split."""
    splits = {"train": 24, "validation": 12, "validation_matched": 12, "validation_mismatched": 12}
    splits |= {"test": 13, "test_matched": 13, "test_mismatched": 10}
    own = {task.train_split, *task.validation_splits.values(), *task.test_splits.values()}
    found = {}
    for split, count in splits.items():
        if split not in own:
            continue
        hidden = -1.0 if task.regression else -1
        labels = [float(n % 6) if task.regression else n % len(task.label_names) for n in range(count)]
        rows = [
            texts_of(task, split, n) | {"label": hidden if split.startswith("test") else labels[n], "idx": n}
            for n in range(count)
        ]
        found[split] = datasets.Dataset.from_list(rows)
    return datasets.DatasetDict(found)


@pytest.fixture(scope="module")
def trained(tokenizer_folder, tmp_path_factory):
    """A folder with a run for one, two and three labels, and the Hub replaced."""
    folder = tmp_path_factory.mktemp("glue")
    encoder = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    encoder |= {"intermediate_size": 32, "vocab_size": 17, "max_position_embeddings": 64}
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    patch.setattr("mebert.data.tasks.load_hub_dataset", serve)
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    for task in ("stsb", "wnli", "mnli"):
        settings = {
            "experiment": task,
            "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1, "precision": "32-true"},
            "model": {"class_path": "MultiExitModule", "init_args": {"encoder_config": encoder, "learning_rate": 0.01}},
            "data": {
                "class_path": "TextDataModule",
                "init_args": {"task": task, "tokenizer": tokenizer_folder, "max_length": 32, "batch_size": 8},
            },
            "curve": {"wall_samples": 0, "points": [1.2, 1.5]},
            "test_after_fit": False,
        }
        (folder / f"{task}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        assert run("fit", "--config", f"{task}.yaml") == 0
    yield folder
    patch.undo()


def checkpoint_for(folder, task):
    """The checkpoint with as many labels, in the names of this task's."""
    names = list(TASKS[task].label_names)
    base = {1: "stsb", 2: "wnli", 3: "mnli"}[len(names)]
    content = read_checkpoint(folder / f"runs/{base}/version_0/checkpoints/best.ckpt")
    content["mebert"]["label_names"] = names
    generator = torch.Generator().manual_seed(0)
    for name, weight in content["state_dict"].items():
        if name.startswith("model.") and weight.ndim == 2:  # so that the answers are not all the same
            weight.add_(torch.randn(weight.shape, generator=generator) * (2 if "exits" in name else 0.5))
    torch.save(content, folder / f"{task}.ckpt")
    return ["--config", f"{base}.yaml", "--data.init_args.task", task, "--ckpt_path", f"{task}.ckpt"]


def read_strictly(path):
    """The predictions of a submission's file; anything that the server might stumble over fails."""
    content = path.read_bytes().decode("ascii")
    assert "\r" not in content
    assert content.endswith("\n")
    header, *lines = content.removesuffix("\n").split("\n")
    assert header == "index\tprediction"
    rows = [line.split("\t") for line in lines]
    assert all(len(row) == 2 for row in rows)
    assert [row[0] for row in rows] == [str(n) for n in range(len(rows))]
    return [row[1] for row in rows]


def test_every_file_has_the_labels_that_the_server_reads(tmp_path):
    for task, (files, labels) in EXPECTED.items():
        count = max(1, len(labels))
        write_glue_files(tmp_path, task, dict.fromkeys(files.values(), count), [*range(count)] * len(files))
        for name in files:
            expected = [labels[label] for label in TASKS[task].label_names] if labels else ["0.0000"]
            assert read_strictly(tmp_path / name) == expected
    assert {path.name for path in tmp_path.iterdir()} == {file.name for file in GLUE_FILES}
    assert len(GLUE_FILES) == 11
    write_glue_files(tmp_path, "stsb", {"test": 4}, [-0.3, 5.2, 2.5, 4.99996])
    assert read_strictly(tmp_path / "STS-B.tsv") == ["0.0000", "5.0000", "2.5000", "5.0000"], "kept between 0 and 5"


SLOW = pytest.mark.slow


@pytest.mark.parametrize("task", ["stsb", pytest.param("wnli", marks=SLOW), pytest.param("rte", marks=SLOW), "mnli"])
def test_files_of_a_task(task, trained, capsys):
    files, words = EXPECTED[task]
    common = ["predict", *checkpoint_for(trained, task)]
    assert run(*common, "--format", "glue", "--out", "submission", "--engine=refill", "--speedup", "1.2") == 0
    said = capsys.readouterr().out
    for name, split in files.items():
        found = read_strictly(trained / "submission" / name)
        assert len(found) == len(serve(TASKS[task])[split])
        table = trained / f"{task}-{split}.csv"
        assert run(*common, "--data.init_args.predict_split", split, "--out", str(table), "--speedup=1.2") == 0
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if task == "stsb":
            assert all(re.fullmatch(r"[0-5]\.\d{4}", value) for value in found)
            # Two engines batch the rows in different ways, so that the last digits may differ.
            wanted = [min(max(float(row["score"]), 0.0), 5.0) for row in rows]
            assert [float(value) for value in found] == pytest.approx(wanted, abs=2e-4)
            assert len(set(found)) > 3
        else:
            assert found == [words[row["label"]] for row in rows]
            assert len(set(found)) == len(words)
        assert f"{Path('submission') / name} ({len(found)} rows)" in said


def test_into_the_run_by_default_with_a_word_on_what_is_missing(trained, capsys):
    assert run("predict", *checkpoint_for(trained, "mnli"), "--format=glue") == 0
    folder = newest(trained, "mnli") / "glue"
    assert {path.name for path in folder.iterdir()} == {"MNLI-m.tsv", "MNLI-mm.tsv"}
    said = capsys.readouterr().out
    assert "still without CoLA.tsv, " in said
    assert "MNLI-m.tsv," not in said.partition("still without")[2]


def test_one_of_two_splits(trained):
    asked = ["--data.init_args.predict_split", "test_mismatched", "--out", "one"]
    assert run("predict", *checkpoint_for(trained, "mnli"), "--format", "glue", *asked) == 0
    assert [path.name for path in (trained / "one").iterdir()] == ["MNLI-mm.tsv"]
    assert len(read_strictly(trained / "one/MNLI-mm.tsv")) == 10


def test_rows_that_are_not_glues_own_are_told(trained, capsys, monkeypatch):
    arguments = ["predict", *checkpoint_for(trained, "wnli"), "--format", "glue", "--out", "told"]
    assert run(*arguments) == 0
    assert "WNLI.tsv has 13 rows, but GLUE's test set has 146: the server will refuse it" in capsys.readouterr().out
    files = tuple(file._replace(rows=13) if file.task == "wnli" else file for file in GLUE_FILES)
    monkeypatch.setattr("mebert.report.glue_files.GLUE_FILES", files)
    for file in files:
        (trained / "told" / file.name).touch()
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert "the server" not in said
    assert "whole; next: zip -j glue.zip told/*.tsv" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data.init_args.task", "snli"], "predictions.format glue is for GLUE's tasks, not for the task 'snli'"),
        (
            ["--data", "SyntheticEntailmentDataModule"],
            "GLUE's tasks, not for other data; give --data.task of cola, sst2",
        ),
        (["--data.init_args.predict_split", "validation_matched"], "the test rows of 'mnli' (test_matched, test_mis"),
        (["--data.init_args.predict_file", "a.csv"], "leave out data.predict_file"),
        (["--out", "all.tsv"], "give a folder"),
        (["--trainer.limit_predict_batches", "2"], "leave out trainer.limit_predict_batches"),
        (["--data.init_args.task", "rte"], "was trained for 3 labels, but this data has 2"),
    ],
)
def test_refusals_before_anything_is_written(more, message, trained, capsys):
    before = set(trained.rglob("*.tsv"))
    assert run("predict", *checkpoint_for(trained, "mnli"), "--format", "glue", *more) == 2
    assert message in capsys.readouterr().err
    assert set(trained.rglob("*.tsv")) == before
