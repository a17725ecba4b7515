"""Training ends when a validation metric does not improve, in a recipe of two stages in the second."""

import math

import lightning as L
import pytest
import torch
from runs import experiment, run, write_config

from mebert.callbacks.early_stopping import StopEarly
from mebert.cli.main import main


def validations(here):
    lines = (here / "runs/tiny/version_0/metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("val/auc")
    return [line.split(",")[column] for line in lines[1:] if line.split(",")[column]]


@pytest.mark.parametrize(("recipe", "count"), [("MultiExitModule", 3), ("DeeBERTModule", 5)])
def test_it_stops(here, caplog, recipe, count):
    """`min_delta` is larger than any improvement: the first validation that counts is the best, and two more follow."""
    more = {"stage1_epochs": 2} if recipe == "DeeBERTModule" else {}
    config = str(write_config(here, experiment(recipe, **more)))
    words = ["--early_stopping.patience", "2", "--early_stopping.min_delta", "1", "--trainer.max_epochs", "9"]
    assert run("fit", "--config", config, *words, "--test_after_fit", "false") == 0
    assert len(validations(here)) == count
    assert "early stopping: val/auc has not improved for 2 validation(s) (best 0." in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--early_stopping.patience", "0"], "patience must be at least 1, got 0"),
        (
            ["--early_stopping.patience=1", "--early_stopping.monitor=val/f1"],
            "early_stopping.monitor val/f1 is not measured",
        ),
    ],
)
def test_what_is_refused(here, capsys, words, message):
    assert main(["fit", "--config", str(write_config(here)), *words, "--trainer.enable_progress_bar=false"]) == 2
    assert message in capsys.readouterr().err


def test_a_metric_without_a_value_does_not_stop_training_at_once(here):
    """A constant exit has no correlation; three validations without one are three without an improvement."""
    callback, trainer = StopEarly(patience=3), L.Trainer(logger=False, barebones=True)
    trainer.state.fn = "fit"
    trainer.callback_metrics["val/auc"] = torch.tensor(math.nan)
    stopped = []
    for _ in range(3):
        callback._run_early_stopping_check(trainer)
        stopped.append(trainer.should_stop)
    assert stopped == [False, False, True]
