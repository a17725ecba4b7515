"""What users' texts, labels and names hold stands in the terminal as it is: no style, no command, no other line."""

import csv
import re
import shutil

import pytest
from rich.text import Text
from runs import QUIET, experiment, newest, run, write_config

import mebert.cli.main
from mebert.errors import CONTROL, UserError, escape_control_chars
from mebert.report.layout import console, print_pairs, print_table, report_table

MARKUP, CLOSING, ANSI = "[red]angry[/red]", "[/]", "calm\x1b[31m\x07"
TEXT = "[bold]see[/bold] :smile: \x1b[2J\x1b]0;title\x07 =1+1 \u202etxt"
LABELS = [MARKUP, CLOSING, ANSI]
SOME_LABEL = "|".join(map(re.escape, (MARKUP, CLOSING, "calm")))
RUN = "runs/tiny/version_0"


def commands_in(text):
    """Characters that a terminal obeys, or that turn the direction of writing."""
    return set(CONTROL.findall(text)) | set(re.findall("\x1b", text))


@pytest.fixture(scope="module")
def odd(trained_run, tmp_path_factory):
    """A run on own files whose labels and texts are not what one would wish for."""
    folder = tmp_path_factory.mktemp("odd")
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"{TEXT} {number}", LABELS[number % 3]] for number in range(24))
    settings = experiment()
    settings["trainer"]["max_epochs"] = 1
    settings["curve"]["wall_samples"] = 0
    settings["data"] = {
        "class_path": "mebert.TextDataModule",
        "init_args": {
            "tokenizer": str(trained_run / "runs/tiny/version_0/model"),
            "max_length": 32,
            "batch_size": 8,
            "labels": LABELS,
            **{f"{split}_file": "rows.csv" for split in ("train", "validation", "test", "predict")},
        },
    }
    write_config(folder, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        assert run("fit", "--config", "tiny.yaml") == 0
        yield folder


@pytest.fixture
def here(odd, monkeypatch, capsys):
    monkeypatch.chdir(odd)
    capsys.readouterr()
    return odd


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (["test", "--config", "tiny.yaml", "--ckpt_path", "best", *QUIET], [r"Operating points \(test"]),
        (["inspect", "--model", RUN, "--text", TEXT, "--samples", "0"], [r"\[bold\]see\[/bold\] :smile:", SOME_LABEL]),
        (["compare", "[red]a[/red]", "b\x1b[31m"], [r"\[red\]a\[/red\]"]),
    ],
    ids=["test", "inspect", "compare"],
)
def test_commands_show_texts_labels_and_names_as_they_are(args, shown, here, capsys):
    for name in ("[red]a[/red]", "b\x1b[31m"):
        shutil.copytree(RUN, name, dirs_exist_ok=True)
    assert mebert.cli.main.main(args) == 0
    out, err = capsys.readouterr()
    assert commands_in(out) == commands_in(err) == set()
    assert all(re.search(part, out) for part in shown)
    if args[0] == "test":
        written = (newest(here) / "report.md").read_text(encoding="utf-8")
        assert commands_in(written) == set()
        assert r"| \[red\]angry\[/red\] |" in written


def test_the_table_of_predictions_holds_the_texts_themselves(here):
    """It is data, for programs: nothing in it is changed, and it is read back as it was (docs/reliability.md)."""
    assert run("predict", "--config", "tiny.yaml", "--ckpt_path", "best", "--predictions.path", "out.csv") == 0
    with open("out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [f"{TEXT} {number}" for number in range(24)]
    assert {row["label"] for row in rows} <= set(LABELS)


# ---- one by one ------------------------------------------------------------------------------------------------------


def test_cells_titles_and_pairs(capsys):
    table = report_table(f"title {TEXT}", left=[f"column {MARKUP}"], right=["n"], caption=f"caption {CLOSING} {ANSI}")
    table.add_row(TEXT, "1")
    table.add_row(Text(ANSI, style="bold"), MARKUP)
    print_table(table)
    print_pairs(f"pairs {MARKUP}", {"a[/]": TEXT, "b": ANSI})
    console().print(MARKUP, CLOSING, ANSI, TEXT)
    out = capsys.readouterr().out
    assert commands_in(out) == set()
    assert out.count(MARKUP) == 4
    assert out.count("[bold]see[/bold]") == 4
    lines = [line for line in out.splitlines() if line.rstrip().endswith((" 1", MARKUP)) and "column" not in line]
    assert len({len(line.rstrip()) for line in lines[:2]}) == 1, "columns stay columns"


def test_errors(capsys):
    assert str(UserError(f"label {ANSI} of {MARKUP}")) == f"label calm\ufffd of {MARKUP}"
    assert run("fit", "--config", f"no{ANSI}.yaml") == 2
    assert commands_in(capsys.readouterr().err) == set()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ümläut, 中文, 🙂\tand\nlines", "plain, ümläut, 中文, 🙂\tand\nlines"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\rb\x08c\x00d", "a\ufffdb\ufffdc\ufffdd"),
        ("\x9b31mC1", "\ufffd31mC1"),
        ("over\u202ewritten", "over\ufffdwritten"),
    ],
)
def test_visible(text, shown):
    assert escape_control_chars(text) == shown
