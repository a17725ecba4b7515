"""What the command line says of itself: help, version, mistyped commands, completion."""

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from mebert.cli.commands import COMMANDS, command_function
from mebert.cli.examples import EXAMPLES, RUN
from mebert.cli.help import LIGHTNING_COMMANDS, SHORT_OPTIONS
from mebert.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
ALL = [*LIGHTNING_COMMANDS, *COMMANDS]


def said(*args):
    """What is printed before the command ends by itself."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code in (0, None)
    return out.getvalue()


@cache
def help_of(command, option="--help"):
    """Worked out once: making a parser of Lightning's takes a second."""
    return said(command, option)


def test_top_help_lists_commands_in_the_order_of_the_work():
    text = said("--help")
    wanted = [
        "fit",
        "validate",
        "test",
        "predict",
        "calibrate",
        "bench",
        "compare",
        "inspect",
        "demo",
        "cascade",
        "study",
    ]
    places = [text.index(f"\n    {name} ") for name in wanted]
    assert places == sorted(places)
    assert set(ALL) <= {line.split()[0] for line in text.splitlines() if line.startswith("    ")}
    assert said("-h") == text


def test_top_help_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert all(len(line) <= 60 for line in said("--help").splitlines() if "python -m mebert" not in line)


def test_alone_it_prints_the_help_and_fails(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "train and use:" in captured.err
    assert not captured.out


def test_version():
    import mebert

    assert said("--version") == f"mebert {mebert.__version__}\n"


def test_a_mistyped_command_gets_one_line(capsys):
    assert main(["calibrat", "--model", "x"]) == 2
    error = capsys.readouterr().err
    assert "did you mean calibrate?" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ALL)
def test_help_of_each_command(command):
    text = help_of(command)
    assert text.startswith(f"usage: python -m mebert {command}")
    assert "--print_config" in text
    assert "+ [ITEM" not in text
    assert "keywords separated by comma" not in " ".join(text.split())
    assert text.count("\n") < 300
    end = text[text.index("\nexamples:\n") :]
    shown = [line.strip() for line in end.splitlines() if line.startswith("  python")]
    own = [f"python -m mebert {words}" for words in EXAMPLES if words.startswith(f"{command} ")]
    assert shown == own != [], "whole, as they are typed"


@pytest.mark.parametrize(
    ("command", "read", "not_read"),
    [
        ("fit", "--exit_prediction.kind", "--predictions.engine"),
        ("validate", "--curve.points", "--wandb.samples"),
        ("test", "--wandb.samples", "--trainer.max_epochs"),
        ("predict", "--predictions.engine", "--exit_prediction.kind"),
    ],
)
def test_help_shows_what_the_command_reads(command, read, not_read):
    text = help_of(command)
    assert read in text
    assert not_read not in text
    assert not_read in help_of(command, "--help_all")
    assert "Path to a configuration file" not in text
    assert "\ncheckpoint to " in text, "and not Lightning's title of that section"
    assert not re.search(r"Optional\[|Union\[|Literal\[", text), "types in plain words"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_all_that_stands_before_the_arguments(command):
    words = " ".join(help_of(command).split())
    before, _, _ = str(command_function(command).__doc__).partition("Args:")
    assert " ".join(before.split()) in words
    assert "Args:" not in words


@pytest.mark.parametrize("words", EXAMPLES)
def test_examples_parse(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mebert.cli.fit_file._encoder_fit", lambda *_: (384, 64, 99.0))
    (tmp_path / "reviews.csv").write_text("text,label\ngood,1\nbad,0\nfine,1\n", encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / RUN / "checkpoints").mkdir(parents=True)
    (tmp_path / RUN / "checkpoints/best.ckpt").touch()
    shutil.copy(ROOT / "configs/quickstart.yaml", tmp_path / RUN / "config.yaml")
    given = shlex.split(words.partition(" > ")[0])
    assert all(Path(word).exists() for word in given if word.startswith("configs/"))
    assert said(*given, "--print_config")


def test_short_help_shows_the_trainer_in_plain_words_and_long_help_all_of_it():
    short, long = help_of("fit"), help_of("fit", "--help_all")
    assert "--trainer.max_epochs" in short
    assert "--trainer.num_sanity_val_steps" not in short
    assert "--trainer.num_sanity_val_steps" in long
    assert short.index("\nmodel:") < short.index("\ndata:") < short.index("\ncurve:") < short.index("\ntrainer:")
    for name in ("ProtoExitModule", "GEEPModule", "MultiExitModule"):
        assert name in short[short.index("\nmodel:") : short.index("\ndata:")]


def test_help_of_what_needs_no_pytorch_does_not_load_it():
    """The top help and our own commands' answer at once."""
    code = (
        "import sys; from mebert.cli.main import main\n"
        "for args in ['--help'], ['compare', '--help'], ['bench', '--help'], ['study', '--help'], ['fitt']:\n"
        "    try: main(args)\n"
        "    except SystemExit: pass\n"
        "heavy = 'torch', 'lightning', 'transformers', 'datasets', 'pandas', 'matplotlib', 'plotly', 'wandb'\n"
        "print('loaded:', [m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


# ---- short options ---------------------------------------------------------------------------------------------------


def config_of(*args):
    """The configuration that the real parser makes of the arguments."""
    config = str(ROOT / "configs/quickstart.yaml")
    return yaml.safe_load(said("predict", "--config", config, "--ckpt_path", "best", *args, "--print_config"))


def test_both_spellings_are_the_long_options():
    plain = config_of("--predictions.format", "jsonl", "--predictions.path", "a=b.jsonl", "--predictions.speedup", "2")
    assert config_of("--format", "jsonl", "--out", "a=b.jsonl", "--speedup", "2") == plain
    assert config_of("--format=jsonl", "--out=a=b.jsonl", "--predictions.speedup", "3", "--speedup=2") == plain
    assert plain["predictions"]["path"] == "a=b.jsonl"
    found = config_of("--engine", "refill", "--max_drop=0.01")["predictions"]
    assert (found["engine"], found["max_drop"]) == ("refill", 0.01)


def test_help_names_short_options():
    for option, short in SHORT_OPTIONS.items():
        assert re.search(rf"{short} .*--{option}", help_of("predict"))


# ---- completion ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script for bash, in a file."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["completion", "bash"]) == 0
    path = tmp_path_factory.mktemp("completion") / "mebert"
    path.write_text(out.getvalue(), encoding="utf-8")
    return path


def completed(script, *words):
    """What bash offers for the last word."""
    quoted = " ".join(map(shlex.quote, words))
    code = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _shtab_mebert; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_takes_the_script(script):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "complete" in script.read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["comp"], {"compare", "completion"}),
        (["fit", "--conf"], {"--config"}),
        (["fit", "--model", "Proto"], {"ProtoExitModule"}),
        (["fit", "--model.pooling", "m"], {"mean", "max"}),
        (["fit", "--data.max_tr"], {"--data.max_train_samples"}),
        (["fit", "--trainer.enable_progress_bar", "f"], {"false"}),
        (["predict", "--engine", "re"], {"refill"}),
        (["bench", "--engines", "shrink", "pre"], {"predicted"}),
    ],
)
def test_bash_completes(script, typed, offered):
    assert set(completed(script, "mebert", *typed)) == offered


def test_other_shells_and_mistakes(capsys, monkeypatch):
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef mebert")
    assert main(["completion", "csh"]) == 2
    assert "shell must be one of bash, zsh, tcsh" in capsys.readouterr().err
    monkeypatch.setattr("mebert.cli.completion.find_spec", lambda name: None)
    assert main(["completion"]) == 2
    assert "pip install shtab" in capsys.readouterr().err
