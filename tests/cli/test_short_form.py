"""The model's name first: predict, test, validate and the other commands on a run, a model folder and a Hub id."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from runs import read_csv, run, text_experiment, write_rows
from safetensors.torch import load_file, save_file

from mebert import EarlyExitClassifier
from mebert.cli.main import main
from mebert.cli.short_form import in_full
from mebert.commands.predict.command import PredictSettings
from mebert.commands.predict.source import open_texts
from mebert.data.text_splits import TextSplits
from mebert.errors import UserError
from mebert.storage.model_spec import ModelSpec
from mebert.storage.run_folder import find_model

RUN = "runs/tiny/version_0"
ROWS = [
    {"id": "a1", "hypothesis": "anna likes dogs", "premise": "anna likes animals", "label": "entailment"},
    {"id": "a2", "hypothesis": "anna likes cats", "premise": "bob likes dogs", "label": "neutral"},
    {"id": "a3", "hypothesis": "bob likes dogs", "premise": "anna likes cats", "label": ""},
]
PAIRS = [(row["hypothesis"], row["premise"]) for row in ROWS]


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if not path.name.endswith(".lock")}


def give_lines(monkeypatch, lines: list[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(f"{x}\n" for x in lines).encode())))


@pytest.mark.parametrize("name", [RUN, f"{RUN}/model", "runs/tiny"])
def test_a_file_is_answered_in_its_order_and_nothing_else_is_written(in_trained_run, capsys, name):
    write_rows(Path("own.csv"), ROWS)
    before = files(in_trained_run)
    assert main(["predict", name, "own.csv", "--id_columns", "id"]) == 0
    printed = capsys.readouterr()
    found = list(csv.DictReader(io.StringIO(printed.out)))
    wanted = EarlyExitClassifier.from_pretrained(f"{RUN}/model")(PAIRS)
    assert [row["id"] for row in found] == ["a1", "a2", "a3"]
    assert [(row["hypothesis"], row["premise"]) for row in found] == PAIRS
    assert [(row["label"], int(row["exit"])) for row in found] == [(one.label, one.exit) for one in wanted]
    assert float(found[0]["prob_neutral"]) == pytest.approx(wanted[0].probabilities["neutral"], abs=1e-5)
    right = sum(one.label == row["label"] for one, row in zip(wanted, ROWS, strict=True))
    assert f"acc {right / 2:.4f}" in printed.err
    assert "on the 2 of 3 rows with a label" in printed.err
    assert "operating point: " in printed.err
    assert files(in_trained_run) == before


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_out_has_the_format_of_its_ending(in_trained_run, capsys, ending):
    write_rows(Path("own.jsonl"), ROWS)
    before = files(in_trained_run)
    assert main(["predict", RUN, "own.jsonl", "--out", f"answers.{ending}", "--speedup", "1"]) == 0
    assert capsys.readouterr().out == ""
    assert files(in_trained_run) - before == {str(in_trained_run / f"answers.{ending}")}
    import pandas as pd

    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda path: pd.read_json(path, lines=True)}
    found = read[ending](f"answers.{ending}")
    assert list(found["exit"]) == [3, 3, 3], "speed-up 1 is the full depth"
    assert list(found["index"]) == [0, 1, 2]


def test_standard_input_is_read_once_and_answered_a_line_each(in_trained_run, capsys, monkeypatch):
    give_lines(monkeypatch, ["\t".join(pair) for pair in PAIRS])
    assert main(["predict", RUN, "-", "--format", "jsonl"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["text"], row["text_pair"]) for row in found] == PAIRS
    give_lines(monkeypatch, ["one text alone"])
    assert main(["predict", RUN, "-"]) == 2
    assert "standard input, line 1: the model reads pairs of texts; put a tab between" in capsys.readouterr().err


def test_texts_of_the_command_line_are_answered_in_words_and_a_warning_is_one_plain_line(in_trained_run, capsys):
    (one,) = EarlyExitClassifier.from_pretrained(RUN)([PAIRS[0]])
    assert main(["predict", RUN, "--pair", *PAIRS[0]]) == 0
    assert capsys.readouterr().out == f"{one.label} ({one.probabilities[one.label]:.4f}), exit {one.exit} of 3\n"
    assert warnings.formatwarning("a\n  b", UserWarning, "file.py", 3, "line") == "warning: a b\n"


def test_a_run_alone_answers_its_test_rows_as_test_does(in_trained_run, capsys, caplog):
    """At the default point, which `fit` has stored by the number of its largest drop, too."""
    before, known = files(in_trained_run), json.loads(Path(f"{RUN}/evaluation.json").read_text())
    assert main(["predict", RUN, "--max_drop", "0.005", "--precision", "float32", "--out", "own.csv"]) == 0
    assert f"the 41 test rows of {RUN}" in caplog.text
    printed, rows = capsys.readouterr().err, read_csv("own.csv")
    assert f"column 'label': acc {known['operating_point']['metric']:.4f} on the 41 rows with a label" in printed
    assert "by layers, in float32\n" in printed
    assert list(rows[0])[:4] == ["index", "hypothesis", "premise", "label"]
    assert files(in_trained_run) - before == {str(in_trained_run / "own.csv")}


def test_where_the_test_rows_are_gone_the_validation_rows_are_answered(here, hf_cache, caplog):
    rows = [{"text": "good film" if n % 2 else "bad film", "label": "ab"[n % 2]} for n in range(6)]
    splits = {"train": rows, "validation": rows, "test": rows[:4]}
    settings = text_experiment(here, splits, ["good", "bad", "film"])["data"]["init_args"]
    data, later = TextSplits(**settings), TextSplits(**settings)
    Path("test.csv").unlink()
    texts = open_texts(PredictSettings(RUN), data, 1)
    assert f"the 6 validation rows of {RUN} (no test rows: there is no file {here / 'test.csv'}" in caplog.text
    assert list(texts) == [row["text"] for row in rows]
    assert [texts.next_cells() for _ in rows] == [(row["text"], row["label"]) for row in rows]
    Path("validation.csv").unlink()
    with pytest.raises(UserError, match=f"its own rows cannot be read .*: python -m mebert predict {RUN} my.csv"):
        open_texts(PredictSettings(RUN), later, 1)


def test_a_model_folder_of_another_run_is_refused(in_trained_run, capsys):
    weights = Path(f"{RUN}/model/exits.safetensors")
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    for words in (["predict", RUN], ["calibrate", RUN, "--max_drop", "0.1"], ["inspect", RUN, "--pair", "a", "b"]):
        assert main(words) == 2
        assert (
            f"mebert: error: {RUN}/model is not the model that {RUN}/checkpoints/best.ckpt" in capsys.readouterr().err
        )
    assert main(["predict", f"{RUN}/model", "--pair", "a", "b"]) == 0


def test_a_copied_run_is_tested_beside_itself(in_trained_run):
    copy = in_trained_run / "elsewhere" / "mine" / "version_3"
    shutil.copytree(RUN, copy)
    before = files(in_trained_run / "runs")
    assert run("test", str(copy.relative_to(in_trained_run)), "--curve.wall_samples", "0") == 0
    assert (copy.with_name("version_4") / "evaluation.json").is_file()
    assert files(in_trained_run / "runs") == before


def test_the_full_form_of_predict_leaves_nothing_but_its_answers(in_trained_run, capsys):
    before = files(in_trained_run)
    assert run("predict", "--config", "tiny.yaml", "--ckpt_path", "best", "--out", "own.csv") == 0
    assert files(in_trained_run) - before == {str(in_trained_run / "own.csv")}
    assert re.search(r"precision +float32", capsys.readouterr().out)


def test_a_model_folder_alone_needs_no_run(in_trained_run, capsys):
    shutil.move(f"{RUN}/model", "alone")
    shutil.rmtree("runs")
    write_rows(Path("own.csv"), ROWS)
    assert main(["predict", "alone", "own.csv"]) == 0
    assert main(["test", "alone", "own.csv"]) == 0
    printed = capsys.readouterr().out
    assert "Exits, 2 rows of own.csv" in printed
    assert "operating point" in printed
    assert main(["test", "alone"]) == 2
    assert "test alone labelled.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["predict", "alone"],
            "alone has no rows of its own, as a finished run has: give a file (predict alone my.csv)",
        ),
        (["predict", RUN, "--id_columns", "id"], "id_columns names a column of a file, and what is answered without"),
        (["predict", RUN, "own.csv", "--max-drop", "0.1"], "--max-drop 0.1; did you mean --max_drop?"),
        (["predict"], "predict needs a run first: python -m mebert predict RUN"),
        (["predict", "runs/tinny"], "model 'runs/tinny' (there is no such folder, so it is read as a Hub id): "),
        (["predict", RUN, "own.csv", "--text", "x"], "file and text were both given"),
        (["predict", "none/at/all", "own.csv"], "none/at/all: no such file or folder; give a run"),
        (["predict", "own.csv", "own.csv"], "own.csv is a file; give a run, a model folder or a Hub id first"),
        (["predict", RUN, "none.csv"], "there is no file none.csv"),
        (["predict", RUN, "own.csv", "--text_column", "x"], "--text_column: own.csv has no column 'x'"),
        (["predict", RUN, "own.csv", "--out", "x.txt"], "path 'x.txt' must end in .csv, .tsv, .jsonl or .parquet"),
        (["predict", RUN, "own.csv", "--out", "own.csv"], "is a file that the command reads"),
        (["predict", RUN, "-", "--id_columns", "id"], "id_columns names a column of a file, and - has none"),
        (["test", RUN, "none.csv"], "there is no file none.csv"),
    ],
)
def test_mistakes_are_told_in_one_line(in_trained_run, capsys, words, message):
    shutil.copytree(f"{RUN}/model", "alone")
    write_rows(Path("own.csv"), ROWS)
    assert main(words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mebert: error:")]
    assert message in line


def test_a_run_is_the_config_and_the_best_checkpoint_of_the_full_form(in_trained_run):
    best = str(Path(RUN) / "checkpoints" / "best.ckpt")
    full = ["--config", f"{RUN}/config.yaml", "--ckpt_path", best, "--curve.points", "[2]"]
    for command in ("test", "validate"):
        assert in_full([command, RUN, "--curve.points", "[2]"]) == [command, *full]
        assert in_full([command, "runs/tiny", "--curve.points", "[2]"]) == [command, *full]
    assert find_model(best).model == str(Path.cwd() / RUN / "model")
    assert find_model("runs/tiny").saved == f"{RUN}/model"
    shutil.rmtree(f"{RUN}/model")
    assert find_model(RUN).model is None
    with pytest.raises(UserError, match="has no folder model with exits"):
        assert find_model(RUN).saved


COMMANDS = """
import sys
from mebert.cli.main import main
from mebert import EarlyExitClassifier
for words in {commands!r}:
    status = main(words)
    heavy = [name for name in ("lightning", "pytorch_lightning", "torchmetrics") if name in sys.modules]
    print("ran", words[0], status, heavy, file=sys.stderr)
    assert status == 0 and not heavy, (words, status, heavy)
"""


def test_an_experiment_is_its_newest_training_and_another_point_of_its_model_is_told(in_trained_run):
    run = Path(RUN)
    newer = run.with_name("version_1")  # as a test leaves one: no model, no checkpoints
    newer.mkdir()
    shutil.copy(run / "config.yaml", newer)
    assert find_model("runs/tiny").saved == str(run / "model")
    shutil.rmtree(newer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_full(["test", RUN])
    with ModelSpec.change(run / "model") as spec:
        spec.chosen_by = "calibrate, 2x by layers"
    with pytest.warns(UserWarning, match="has one of its own .by calibrate, 2x by layers., which predict runs/tiny"):
        in_full(["test", RUN])


@pytest.mark.slow
def test_commands_without_a_trainer_import_neither_lightning_nor_torchmetrics(in_trained_run):
    write_rows(Path("own.csv"), ROWS)
    quick = ["--samples", "8", "--rounds", "1", "--batch_sizes", "8", "--breakdown", "false", "--threads", "1"]
    commands = [
        ["compare", RUN, f"{RUN}/model"],
        ["predict", RUN, "own.csv"],
        ["test", RUN, "own.csv"],
        ["inspect", RUN, "--pair", *PAIRS[0], "--out", "page.html"],
        ["calibrate", RUN, "--max_drop", "0.5"],
        ["calibrate", RUN, "own.csv", "--speedup", "1"],
        ["bench", RUN, *quick, "--engines", "shrink", "--baselines", "sorted", "--precisions", "float32"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS.format(commands=commands)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


REFUSED = """
import sys
from mebert import EarlyExitClassifier
from mebert.cli.main import main
for words in {commands!r}:
    assert main(words) == 2, words
heavy = ("lightning", "torchmetrics", "transformers.modeling_utils", "scipy.stats", "matplotlib", "pandas", "datasets")
assert not [name for name in heavy if name in sys.modules], sorted(sys.modules)
"""


def test_a_start_imports_no_classes_of_models():
    # Hugging Face's `BertModel` takes longer to import than all else: the first model that is opened imports it.
    commands = [["predict", "none", "x.csv"], ["calibrate", "none", "--speedup", "2"], ["inspect", "none"]]
    commands += [["bench", "none"], ["compare", "none", "nor"]]
    words = [sys.executable, "-c", REFUSED.format(commands=commands)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_columns_that_are_not_named_are_those_of_the_training(in_trained_run, capsys):
    write_rows(Path("gold.csv"), [{"text": "no", **row, "gold": row["label"]} for row in ROWS[:2]])
    assert main(["test", RUN, "gold.csv"]) == 0
    wanted = capsys.readouterr().out
    assert main(["test", RUN, "gold.csv", "--label_column", "gold"]) == 0
    assert capsys.readouterr().out == wanted


def test_the_columns_of_the_training_hold_for_calibrate_and_inspect_and_bench_too(in_trained_run, capsys):
    write_rows(Path("gold.csv"), [{"text": "no", **row} for row in ROWS])
    named = ["--text_column", "hypothesis", "--text_pair_column", "premise"]
    calibrate = ["calibrate", RUN, "gold.csv", "--speedup", "1.2", "--save", "false"]
    bench = ["bench", RUN, "--texts", "gold.csv", "--samples", "4", "--rounds", "1", "--batch_sizes", "4"]
    bench += ["--engines", "shrink", "--baselines", "sorted", "--precisions", "float32", "--breakdown", "false"]
    for words in (calibrate, ["inspect", RUN, "--file", "gold.csv", "--out", "page.html"], bench):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of texts where the model reads pairs
            assert main(words) == 0, capsys.readouterr().err
        assert "single" not in (mine := capsys.readouterr()).err
        assert main([*words, *named]) == 0
        assert words is bench or capsys.readouterr().out == mine.out


def test_inspect_writes_onto_no_file_of_an_experiment(in_trained_run, capsys):
    words = ["inspect", "runs/tiny", "--pair", "anna", "bob", "--out", f"{RUN}/evaluation.json"]
    assert main(words) == 2
    assert "a file that the command reads" in capsys.readouterr().err


def test_use_names_its_policy(in_trained_run, capsys):
    words = ["calibrate", RUN, "--max_drop", "0.9", "--use", "entropy"]
    assert main(words) == 0
    assert "The model's own policy is now entropy" in capsys.readouterr().out
