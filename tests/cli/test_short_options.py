"""Short options of `predict`: the same as their long names, and nothing else is let through."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import yaml

from mebert.cli.help import SHORT_OPTIONS
from mebert.cli.main import main

CONFIG = str(Path(__file__).resolve().parents[2] / "configs/quickstart.yaml")


def config_of(*args):
    """What the real parser makes of the arguments."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        main(["predict", "--config", CONFIG, "--ckpt_path", "best", *args, "--print_config"])
    assert stop.value.code in (0, None)
    return yaml.safe_load(out.getvalue())


def test_both_spellings_are_the_long_options():
    plain = config_of("--predictions.format", "jsonl", "--predictions.path", "a=b.jsonl", "--predictions.speedup", "2")
    assert config_of("--format", "jsonl", "--out", "a=b.jsonl", "--speedup", "2") == plain
    assert config_of("--format=jsonl", "--out=a=b.jsonl", "--speedup=2") == plain
    assert plain["predictions"]["path"] == "a=b.jsonl"
    found = config_of("--engine", "refill", "--max_drop=0.01")["predictions"]
    assert (found["engine"], found["max_drop"]) == ("refill", 0.01)


def test_the_last_of_both_names_counts():
    assert config_of("--speedup", "2", "--predictions.speedup", "3")["predictions"]["speedup"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "--config", CONFIG, "--speed", "2"], "--speed"),
        (["fit", "--config", CONFIG, "--speedup", "2"], "--speedup"),
        (["predict", "--config", CONFIG, "--format", "xls"], "predictions.format"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_names_them(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    text = capsys.readouterr().out
    for option, short in SHORT_OPTIONS["predict"].items():
        assert f"{short} " in text
        assert f"--{option}" in text
