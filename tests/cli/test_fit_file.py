"""`fit FILE`: own texts to a trained model without a YAML."""

import json
import random
import warnings
from pathlib import Path

import pytest
import yaml
from runs import read_csv, run, write_rows
from tiny import REVIEW_WORDS as WORDS

from mebert.cli.fit_file import RECIPES, expand
from mebert.cli.main import main
from mebert.errors import UserError
from mebert.storage.model_spec import ModelSpec

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = ["--model.learning_rate", "1e-2", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"]
SHORT = [
    "--trainer.max_epochs=9",
    "--curve.wall_samples=0",
]


def reviews(count, **more):
    """Rows of four words, `stars` 1 or 2 by the first, and a number of each."""
    draw = random.Random(0)
    found = []
    for number in range(count):
        good = number % 2
        words = [draw.choice(WORDS[:3] if good else WORDS[3:6]), *draw.choices(WORDS[6:], k=3 + number % 5)]
        found.append({"id": number, "opinion": " ".join(words), "stars": 1 + good, **more})
    return found


def settings_of(words, encoder):
    expanded, _ = expand(["fit", *words, "--encoder", str(encoder)])
    assert expanded[:2] == ["fit", "--config"]
    return yaml.safe_load(expanded[2]), expanded[3:]


def test_from_the_file_to_answers(here, hf_cache, encoder, caplog, capsys):
    """The three commands of the README on a CSV, with a tiny encoder; its config.yaml gives the same again."""
    write_rows(here / "reviews.csv", reviews(400))
    with warnings.catch_warnings(record=True) as told:
        assert run("fit", "reviews.csv", "--encoder", encoder, *TINY, *SHORT) == 0
    assert not any("log_every_n_steps" in str(one.message) for one in told)
    assert "reviews.csv: text 'opinion', label 'stars' (2 values), 400 rows" in caplog.text
    assert f"recipe self_distill, encoder {encoder}, max_length 16 (100 % of the texts are not cut)" in caplog.text
    assert (
        "settings    runs/reviews/version_0/config.yaml (change it, and run it by fit --config)"
        in capsys.readouterr().out
    )
    first = here / "runs/reviews/version_0"
    config = yaml.safe_load((first / "config.yaml").read_text())
    assert config["model"]["class_path"] == "mebert.SelfDistillModule"
    data = config["data"]["init_args"]
    assert (data["text_column"], data["label_column"], data["labels"]) == ("opinion", "stars", ["1", "2"])
    assert (data["holdout"], data["test_holdout"], data["max_length"], data["batch_size"]) == (0.15, 0.15, 16, 16)
    assert config["early_stopping"] == {"patience": 2, "monitor": "val/auc", "mode": "max", "min_delta": 0.0}
    assert config["checkpoint"]["monitor"] == "val/auc"
    assert "early stopping: val/auc has not improved for 2 validation(s)" in caplog.text
    assert json.loads((first / "evaluation.json").read_text())["samples"] == 60
    policy = ModelSpec.read(first / "model").policy
    assert policy["class_path"].endswith("Stacked")
    assert {len(row) for row in policy["init_args"]["weights"]} == {6}, "with the distance to fitted prototypes"
    write_rows(here / "new.csv", [{"opinion": "good film"}, {"opinion": "awful plot"}])
    assert main(["predict", "runs/reviews/version_0", "new.csv", "--out", "answers.csv"]) == 0
    assert [(row["opinion"], row["label"]) for row in read_csv("answers.csv")] == [
        ("good film", "2"),
        ("awful plot", "1"),
    ]


@pytest.mark.parametrize(
    ("rows", "options", "found"),
    [
        ([{"Text": "a b", "Label": "x"}, {"Text": "c d", "Label": "y"}], [], ("Text", None, "Label")),
        ([{"premise": "a", "hypothesis": "b", "gold": g} for g in "xy"], [], ("premise", "hypothesis", "gold")),
        (
            [{"text": "a", "label": 0, "label_text": "no"}, {"text": "b", "label": 1, "label_text": "yes"}],
            [],
            ("text", None, "label"),
        ),
        (reviews(40), [], ("opinion", None, "stars")),
        (reviews(40, title="a title of it"), ["--text_column", "opinion"], ("opinion", None, "stars")),
        (reviews(40), ["--data.label_column=id"], ("opinion", None, "id")),
        (
            reviews(40, title="one of three"),
            ["--text_column", "title", "--text_pair_column", "opinion"],
            ("title", "opinion", "stars"),
        ),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_are_found(here, encoder, rows, options, found, kind):
    path = write_rows(here / f"rows.{kind}", 2 * rows)
    data = settings_of([path, *options], encoder)[0]["data"]["init_args"]
    assert (data["text_column"], data["text_pair_column"], data["label_column"]) == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["twice.csv"],
            r"twice.csv: which column is the text \('opinion' or 'title'\?\)\? Its columns are id.*by --text_column",
        ),
        (["none.csv"], r"none.csv: which column is the label\? Its columns are text, n; name it by --label_column"),
        (["twice.csv", "--text_column", "opinon"], r"--text_column: twice.csv has no column 'opinon'; .* 'opinion'\?"),
        (
            ["good.csv", "--text_column", "text"],
            r"--text_column: good.csv has no column 'text'; .*did you mean 'opinion'",
        ),
        (["two.csv"], r"two.csv has 2 row\(s\) with a label, and at least 3 are needed"),
        (["one.csv"], r"one.csv: column 'stars' holds one label alone, .*name another column by --label_column"),
        (["twice.csv", "--text_column"], "expected one argument"),
        (["other.csv"], "other.csv"),
        (["."], r"fit \.: a folder; give a file of labelled texts"),
        (["my.yaml"], "fit my.yaml: give a configuration by --config my.yaml"),
        (["--recipe", "de3"], "--recipe needs a file of rows first: python -m mebert fit reviews.csv --recipe"),
        (
            ["good.csv", "--recipe", "debert"],
            r"--recipe debert: no such recipe; did you mean deebert\? Known: self_distill, ",
        ),
        (["good.csv", "--recipe", "my_own.Recipe"], "--recipe my_own.Recipe: No module named 'my_own'"),
        (
            ["good.csv", "--encoder", "none/such"],
            r"cannot load the encoder 'none/such': .*another encoder: --encoder FOLDER",
        ),
    ],
)
def test_what_is_refused(here, words, message):
    write_rows(here / "good.csv", reviews(40))
    write_rows(here / "twice.csv", reviews(40, title="a title of it"))
    write_rows(here / "none.csv", [{"text": "a b", "n": n} for n in range(40)])
    write_rows(here / "one.csv", reviews(1))
    write_rows(here / "two.csv", [{"text": "a b", "label": n} for n in range(2)])
    with pytest.raises(UserError, match=message):
        expand(["fit", *words])


@pytest.mark.parametrize(
    ("option", "meant"),
    [("epochs", "max_epochs"), ("text-column", "text_column"), ("trainer.min_epoch", "trainer.min_epochs")],
)
def test_a_mistyped_option_is_refused_before_anything_is_said(here, encoder, capsys, caplog, option, meant):
    write_rows(here / "rows.csv", reviews(40))
    assert run("fit", "rows.csv", "--encoder", encoder, f"--{option}", "3") == 2
    assert f"unrecognized arguments: --{option} 3; did you mean --{meant}?" in capsys.readouterr().err
    assert not caplog.records


def test_settings_follow_the_file(here, encoder):
    write_rows(here / "rows.csv", reviews(2000))
    config, others = settings_of(
        ["rows.csv", "--data.test_file", "test.csv", "--recipe", "de3", "--seed_everything", "1"], encoder
    )
    assert others == ["--data.test_file", "test.csv", "--seed_everything", "1"]
    assert config["model"]["class_path"] == "mebert.ProtoExitModule"
    assert config["trainer"] == {"max_epochs": 4}
    data = config["data"]["init_args"]
    assert (data["holdout"], data["test_holdout"], data["batch_size"], data["stratify"]) == (0.15, 0.0, 32, True)
    write_rows(here / "many.csv", reviews(40_000))
    config, _ = settings_of(["many.csv", "--recipe", "fastbert"], encoder)
    assert config["data"]["init_args"]["holdout"] == 0.05
    assert (config["trainer"]["max_epochs"], config["model"]["init_args"]["stage1_epochs"]) == (6, 3)
    config, others = settings_of(["many.csv", "--recipe", "fastbert", "--trainer.max_epochs", "2"], encoder)
    assert (config["trainer"]["max_epochs"], config["model"]["init_args"]["stage1_epochs"]) == (2, 1)


def test_settings_that_depend_on_a_given_one_follow_it(here, encoder, caplog):
    write_rows(here / "rows.csv", reviews(2000))
    given = ["--learning_rate", "0.001", "--max_length=24", "--data.holdout", "0.3"]
    config, others = settings_of(["rows.csv", "--recipe", "deebert", *given], encoder)
    assert others == []
    assert config["model"]["init_args"]["student_learning_rate"] == pytest.approx(0.01)
    data = config["data"]["init_args"]
    assert (data["max_length"], data["holdout"], data["test_holdout"]) == (24, 0.3, 0.15)
    assert config["trainer"]["max_epochs"] == 2 * round(6000 / 1100)


def test_every_recipe_of_the_configurations_has_a_name():
    other = {"trainer", "logger", "study", "sweeps", "recommended"}  # whose recipe is self_distill
    named = set(RECIPES) - {"joint", "self_distill"}
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} - other == named


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [*RECIPES, "mebert.modules.geep.GEEPModule"])
def test_every_recipe_trains(here, hf_cache, encoder, recipe):
    write_rows(here / "rows.csv", reviews(60))
    epochs = ["--trainer.max_epochs", "2"]
    assert (
        run("fit", "rows.csv", "--recipe", recipe, "--encoder", encoder, *TINY, *epochs, "--curve.wall_samples", "0")
        == 0
    )
    assert (here / "runs/rows/version_0/model/exits.json").is_file()
