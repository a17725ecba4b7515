"""Bars on a real terminal, plain lines elsewhere."""

import io
import logging
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_only
from runs import experiment, newest, read_csv, run, write_config
from terminal import at_a_terminal

from mebert.callbacks.progress import ExitProgressBar, ProgressLines
from mebert.cli.main import main
from mebert.runtime.progress import Progress
from mebert.runtime.terminal import bars_wanted

LINE = re.compile(r"epoch (\d)/2: loss (\d\.\d{4}), val score (\d\.\d{4})(?: \(best \d\.\d{4}\))?, \d+ s")
BEST = "runs/tiny/version_0/checkpoints/best.ckpt"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal for `redirect_stderr`: pytest itself changes sys.stderr between fixtures and tests."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


def without_codes(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


COMMANDS = [
    ["fit", "--config", "tiny.yaml", "--curve.wall_samples", "0"],
    ["predict", "--config", "tiny.yaml", "--ckpt_path", BEST],
    ["calibrate", "--model", "runs/tiny/version_0", "--max_drop", "0.5", "--device", "cpu"],
]


PHASES = ("epoch 1/2 ", "epoch 2/2 ", "Validation", "Testing", "Predicting", "reading 41 rows ")


def check_bars(raw, phases):
    """What all commands together have drawn, 80 columns wide."""
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") >= 4, "the cursor is given back"
    text = without_codes(raw)
    frames = re.split(r"[\r\n]+", text)
    for begin in phases:
        assert any(frame.startswith(begin) and "━" in frame for frame in frames), begin
    bars = [frame for frame in frames if "━" in frame]
    assert [bar for bar in bars if not re.search(r"[━╸╺] +\d+/\d+", bar) or len(bar) > 80] == []
    assert any("loss: " in bar for bar in bars)
    lines = [frame for frame in frames if LINE.fullmatch(frame.strip())]
    assert [line.strip()[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "…" not in text
    tables = text[text.index("Operating points (") :]
    wide = [line for line in tables.splitlines() if len(line) > 80]
    known = ("runs/tiny", "  expected  ")
    assert [line for line in wide if not any(one in line for one in known)] == [], "paths and commands are never cut"


@pytest.mark.slow
def test_bars_of_all_commands(here, terminal, monkeypatch):
    write_config(here)
    # A screen is drawn ten times a second; here at every batch, as a validation of six batches is shorter than that.
    monkeypatch.setattr("mebert.callbacks.progress.REFRESH_SECONDS", 0.002)
    monkeypatch.setattr(ExitProgressBar, "refresh", lambda self, hard=False: RichProgressBar.refresh(self, hard=True))
    with redirect_stderr(terminal), redirect_stdout(terminal):
        for command in COMMANDS:
            assert main(command) == 0
    check_bars(terminal.getvalue(), PHASES)


@pytest.mark.slow
def test_bars_on_a_real_terminal(tmp_path):
    """As above in a process of its own, where log lines go to the terminal, too."""
    write_config(tmp_path)
    code = f"from mebert.cli.main import main\nfor command in {COMMANDS!r}:\n    assert main(command) == 0\n"
    path = os.pathsep.join([str(Path(__file__).parents[1]), *(p for p in sys.path if p)])
    changed = {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "COLUMNS": "80"}
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")}
    status, text = at_a_terminal([sys.executable, "-c", code], tmp_path, kept | changed, timeout=300)
    assert status == 0, text
    check_bars(text, PHASES[:2])


@pytest.mark.slow
@pytest.mark.parametrize("accumulated", [1, 2])
def test_plain_lines_where_there_is_no_terminal(accumulated, here, capfd, caplog):
    settings = experiment()
    settings["trainer"]["accumulate_grad_batches"] = accumulated
    settings["curve"]["wall_samples"] = 0
    write_config(here, settings)
    caplog.set_level(logging.INFO)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        assert main(["fit", "--config", "tiny.yaml"]) == 0
    printed = capfd.readouterr()
    everything = printed.out + printed.err + caplog.text
    assert not {"\r", "\x1b", "━"} & set(everything)
    found = [match for line in everything.splitlines() if (match := LINE.search(line))]
    rows = read_csv(newest(here) / "metrics.csv")
    lines = {match[1]: match for match in found}
    assert set(lines) == {"1", "2"}
    for epoch, line in lines.items():
        mine = [row for row in rows if row["epoch"] == str(int(epoch) - 1)]
        (score,) = {row["val/score"] for row in mine if row["val/score"]}
        assert line[3] == f"{float(score):.4f}"
        if accumulated == 1:  # else only the last batch of a step is logged
            losses = [float(row["train/loss"]) for row in mine if row["train/loss"]]
            assert float(line[2]) == pytest.approx(sum(losses) / len(losses), abs=1e-4)
        else:
            assert 0.9 < float(line[2]) < 1.4, "about ln 3, not half of it"


def test_no_bar_is_asked_for_on_a_terminal(here, terminal):
    write_config(here)
    with redirect_stderr(terminal):
        assert run("fit", "--config", "tiny.yaml", "--test_after_fit", "false") == 0  # enable_progress_bar false
    assert "━" not in terminal.getvalue()
    assert "\x1b[?25l" not in terminal.getvalue()


def test_a_bar_of_the_user_wins(here, capfd, caplog):
    write_config(here)
    bar = ["--trainer.callbacks", "lightning.pytorch.callbacks.TQDMProgressBar"]
    assert main(["fit", "--config", "tiny.yaml", *bar, "--trainer.fast_dev_run", "true"]) == 0
    printed = capfd.readouterr()
    assert "Epoch 0" in printed.out + printed.err
    assert not LINE.search(printed.err + caplog.text)


@pytest.mark.parametrize("first", [True, False])
def test_only_the_first_process_draws(terminal, first):
    bar = ExitProgressBar()
    trainer = SimpleNamespace(is_global_zero=first, sanity_checking=False, num_val_batches=[3], logger=None)
    trainer.state, trainer.progress_bar_callback = SimpleNamespace(fn="validate"), bar
    bar.setup(trainer, None, "validate")
    with redirect_stderr(terminal):
        bar.on_validation_start(trainer, None)
        bar.on_validation_batch_start(trainer, None, None, 0)
        bar.on_validation_batch_end(trainer, None, None, None, 0)
        bar.on_validation_epoch_end(trainer, None)
    assert ("Validation" in terminal.getvalue()) == first
    assert ("1/3" in terminal.getvalue()) == first


@pytest.mark.parametrize(("rank", "silent"), [(0, False), (1, True)])
def test_libraries_draw_on_the_first_process_alone(rank, silent, here, monkeypatch, terminal):
    """Every process of a run tokenises: the bars of all but one would stand among its own."""
    write_config(here)
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    silenced = []
    monkeypatch.setattr("mebert.cli.lightning.silence_library_bars", lambda: silenced.append(True))
    with redirect_stderr(terminal):
        assert main(["fit", "--config", "tiny.yaml", "--trainer.fast_dev_run", "true"]) == 0
    assert bool(silenced) == silent


def test_lines_without_validation_and_in_long_epochs(monkeypatch):
    said = []
    monkeypatch.setattr("mebert.callbacks.progress.rank_zero_info", said.append)
    trainer = SimpleNamespace(
        max_epochs=-1, current_epoch=0, global_step=7, accumulate_grad_batches=1, callback_metrics={}, training=True,
        lightning_module=None,
    )  # fmt: skip
    lines = ProgressLines()
    lines.on_train_start(trainer, None)
    lines.on_train_epoch_start(trainer, None)
    lines.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.0)}, None, 0)
    assert said == []
    monkeypatch.setattr("mebert.callbacks.progress.SILENCE_SECONDS", -1.0)
    lines.on_train_batch_end(trainer, None, {"loss": torch.tensor(2.0)}, None, 1)
    lines.on_train_epoch_end(trainer, None)
    assert said == ["epoch 1, step 7: loss 1.5000, 0 s"], "nothing has happened since"
    monkeypatch.setattr("mebert.callbacks.progress.SILENCE_SECONDS", 300.0)
    lines.on_train_batch_end(trainer, None, {"loss": torch.tensor(3.0)}, None, 2)
    lines.on_train_epoch_end(trainer, None)
    assert said[1:] == ["epoch 1, step 7: loss 3.0000, 0 s"]


def test_a_line_has_the_epochs_own_time(monkeypatch):
    """Not what passed since the last line, such as the writing of a checkpoint between epochs."""
    said, now = [], [0.0]
    monkeypatch.setattr("mebert.callbacks.progress.rank_zero_info", said.append)
    monkeypatch.setattr("mebert.callbacks.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    shared = {"accumulate_grad_batches": 1, "sanity_checking": False, "state": SimpleNamespace(fn="fit")}
    shared["lightning_module"] = None
    steps = {"val_check_batch": 2, "num_training_batches": 2, "callback_metrics": {}, "global_step": 2}
    lines, batch = ProgressLines(), {"loss": torch.tensor(1.0)}
    for epoch, (start, in_between, end) in enumerate([(100, 110, 160), (1000, 1400, 1900)]):
        trainer = SimpleNamespace(max_epochs=2, current_epoch=epoch, **shared, **steps)
        if not epoch:
            lines.on_train_start(trainer, None)
        now[0] = start
        lines.on_train_epoch_start(trainer, None)
        for at in (in_between, end):
            now[0] = at
            lines.on_train_batch_end(trainer, None, batch, None, 0)
        lines.on_validation_end(trainer, None)
    assert said == [
        "epoch 1/2: loss 1.0000, 1:00 min",
        "epoch 2/2, step 2: loss 1.0000, 6:40 min",
        "epoch 2/2, step 2: loss 1.0000, 15:00 min",
        "epoch 2/2: 15:00 min",
    ]


def test_an_inner_bar_is_drawn_below_the_outer_one(terminal):
    log = logging.getLogger("lightning.pytorch.made_for_this_test")
    handler = logging.StreamHandler(terminal)
    log.addHandler(handler)
    try:
        with redirect_stderr(terminal), Progress("outer", 3) as outer:
            outer.tick()
            with Progress("inner", 2):
                log.warning("a line of a library")
    finally:
        log.removeHandler(handler)
    frames = re.split(r"[\r\n]+", without_codes(terminal.getvalue()))
    order = [frame.split()[0] for frame in frames if "━" in frame]
    assert order[0] == order[-1] == "outer"
    assert order[order.index("inner") - 1] == "outer"
    assert "a line of a library" in frames, "above the bars, not into them"


def test_what_is_printed_goes_to_standard_output_where_that_is_a_file(terminal, capsys):
    with redirect_stderr(terminal), Progress("work", 2) as bar:
        print("a row of a table")
        bar.tick()
    assert capsys.readouterr().out == "a row of a table\n"
    assert "a row of a table" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("CI", "true", False), ("CI", "0", True), ("CI", "", True), ("TERM", "dumb", False), ("TERM", "xterm", True)],
)
def test_where_bars_are_wanted(terminal, monkeypatch, name, value, wanted):
    monkeypatch.setenv(name, value)
    with redirect_stderr(terminal):
        assert bars_wanted() == wanted
        with Progress("work", 1):
            pass
    assert bool(terminal.getvalue()) == wanted


def test_a_pipe_wants_none(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not bars_wanted()
