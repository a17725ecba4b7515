"""A non-finite loss or gradient stops training with one line that says where, on what, why and what to do."""

import re
from pathlib import Path

import lightning as L
import pytest
import torch
from runs import QUIET, experiment, newest, run, run_process, write_config
from torch import nn

from mebert.callbacks.finite_loss import MOST_SKIPPED, FiniteLoss, SeenBatch, advice_for, describe
from mebert.errors import UserError

RECIPE = '''
import os
import torch
import mebert


class Spoilt(mebert.MultiExitModule):
    """From a batch with row SPOILT_ROW on, one part of the loss is SPOILT_BY."""

    def compute_loss(self, outputs, batch):
        loss = self.weighted_exit_loss(outputs, batch)
        row, extra = int(os.environ["SPOILT_ROW"]), torch.zeros_like(loss)
        if self.training and row in batch["index"].tolist() and self.trainer.global_step >= 2:
            extra = extra + float(os.environ["SPOILT_BY"])
        return {"loss": loss + extra, "ce": loss.detach(), "extra": extra.detach()}


class Gradient(mebert.MultiExitModule):
    """The loss is finite, but its gradient is not: the square root of nothing."""

    def compute_loss(self, outputs, batch):
        nothing = (outputs.features * 0.0).sum()
        return {"loss": self.weighted_exit_loss(outputs, batch) + nothing.abs().sqrt() * 0.0}
'''


@pytest.fixture
def here(here, monkeypatch):
    monkeypatch.syspath_prepend(str(here))
    (here / "spoilt_recipe.py").write_text(RECIPE)
    monkeypatch.setenv("SPOILT_ROW", "7")
    monkeypatch.setenv("SPOILT_BY", "nan")
    return here


def write(folder, recipe="spoilt_recipe.Spoilt", trainer=None, **init_args):
    settings = experiment(recipe, **init_args)
    settings["trainer"] |= {"max_epochs": 3, **(trainer or {})}
    settings["last_checkpoint"] = {"every_n_train_steps": 2}
    return str(write_config(folder, settings))


def stopped(capsys, *args):
    """The one line that a stopped run ends with."""
    capsys.readouterr()
    assert run("fit", *args) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mebert: error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_a_part_of_the_loss_of_a_recipe(value, here, monkeypatch, capsys):
    monkeypatch.setenv("SPOILT_BY", value)
    line = stopped(capsys, "--config", write(here))
    assert "the loss is not finite at global step " in line
    assert re.search(rf"loss {value}, its parts ce \d\.\d+, extra {value}, rows ", line)
    rows = [int(row) for row in re.search(r"rows ([\d, ]+) of the training split", line).group(1).split(", ")]
    assert len(rows) == 16
    assert 7 in rows
    for words in ("epoch ", "precision 32-true", "learning rate 0.00", "--model.learning_rate", "ckpt is from before"):
        assert words in line


@pytest.mark.slow
def test_the_checkpoint_before_it_is_whole_and_goes_on(here, monkeypatch, capsys):
    config = write(here)
    step = int(re.search(r"global step (\d+)", stopped(capsys, "--config", config)).group(1))
    last = torch.load(newest(here) / "checkpoints/last.ckpt", weights_only=True)
    assert step - 2 <= last["global_step"] <= step
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())
    monkeypatch.setenv("SPOILT_ROW", "-1")  # the row has been mended
    assert run("fit", "--config", config, "--ckpt_path", "last", "--last_checkpoint.keep", "true") == 0
    end = torch.load(newest(here) / "checkpoints/last.ckpt", weights_only=True)
    assert end["global_step"] == 3 * 6 > step


def test_a_finite_loss_with_a_gradient_that_is_not(here, capsys):
    line = stopped(capsys, "--config", write(here, "spoilt_recipe.Gradient"))
    assert "the gradient is not finite at global step 0 (epoch 1)" in line
    assert re.search(r"loss \d\.\d+, rows", line)


@pytest.mark.parametrize("recipe", ["ProtoExitModule", "RomeBERTModule"])
def test_a_learning_rate_of_1e30(recipe, here, capsys):
    line = stopped(capsys, "--config", write(here, recipe, learning_rate=1e30))
    assert "not finite at global step 1 (epoch 1)" in line, "the first step is taken with the weights as they were"
    assert re.search(r"learning rate (1|9\.\d+)e\+(30|29)\. Likely: the learning rate is far above the usual", line)
    assert "lower --model.learning_rate" in line


def test_weights_that_are_infinite_from_the_start(here, capsys):
    from mebert.models import build_encoder

    encoder = build_encoder("unused", experiment()["model"]["init_args"]["encoder_config"])
    with torch.no_grad():
        encoder.get_input_embeddings().weight[5:] = float("inf")
    encoder.save_pretrained("encoder")
    config = write(here, "MultiExitModule", encoder="encoder", encoder_config=None)
    line = stopped(capsys, "--config", config)
    assert "encoder 'encoder': 1 weight (embeddings.word_embeddings.weight) is NaN or infinite" in line


def test_with_accumulation_the_batch_of_the_step_that_was_at_fault_is_named(here, capsys):
    line = stopped(capsys, "--config", write(here, trainer={"accumulate_grad_batches": 3}))
    rows = re.search(r"rows ([\d, ]+) of the training split", line).group(1).split(", ")
    assert len(rows) == 16
    assert "7" in rows
    assert line.count("loss nan") == 1, "one batch of the three"


def test_it_can_be_turned_off(here):
    config = write(here, trainer={"max_epochs": 1, "max_steps": 4})
    assert run("fit", "--config", config, "--finite_loss.every_n_steps", "0", "--test_after_fit", "false") == 0


def test_a_label_that_is_not_finite_is_named():
    batch = SeenBatch(torch.tensor([4, 9]), torch.tensor([1.0, float("nan")]), torch.tensor(float("nan")))
    assert describe([batch]) == (
        "loss nan, rows 4, 9 of the training split (from 0), labels that are not finite in rows 9"
    )


# ---- fp16's scaler, and accelerators -------------------------------------------------------------------------------


class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)


class Scaled:
    """As much of a Trainer as the callback asks, with a precision plugin that has a scaler."""

    def __init__(self, scaler=True):
        self.precision_plugin = type("Plugin", (), {"scaler": object() if scaler else None})()
        self.global_step, self.current_epoch, self.world_size = 0, 0, 1
        self.precision, self.gradient_clip_val, self.checkpoint_callbacks = "16-mixed", None, []


def steps(callback, trainer, module, losses, gradient=1.0):
    """Steps with these losses; returns how many were taken before it stopped."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for number, loss in enumerate(losses):
        callback.on_train_batch_start(trainer, module, {"index": torch.tensor([number])}, number)
        callback.on_before_backward(trainer, module, torch.tensor(loss))
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        try:
            callback.on_before_optimizer_step(trainer, module, optimizer)
        except UserError as error:
            return number, str(error)
        trainer.global_step += 1
    return len(losses), ""


def test_steps_that_the_scaler_skips_are_no_error():
    nan = float("nan")
    assert steps(FiniteLoss(), Scaled(), Net(), [1.0] * 30, gradient=float("inf"))[0] == 30
    assert steps(FiniteLoss(), Scaled(), Net(), [1.0, nan, nan, 1.0] * 20)[0] == 80
    taken, text = steps(FiniteLoss(), Scaled(), Net(), [1.0] + [nan] * 50)
    assert taken == MOST_SKIPPED
    assert f"after {MOST_SKIPPED} skipped steps in a row" in text
    assert steps(FiniteLoss(), Scaled(scaler=False), Net(), [1.0] * 30, gradient=float("inf"))[0] == 0


def test_float16_is_the_likely_cause_where_it_is_used():
    said = [advice_for(Net(), False, [2e-5], precision, True) for precision in ("16-mixed", "32-true", "bf16-mixed")]
    assert "65504" in said[0]
    assert "bf16-mixed or 32-true" in said[0]
    assert "gradient_clip_val" not in said[1]
    assert "--trainer.precision 32-true" in said[2]


def test_on_an_accelerator_the_step_before_is_looked_at(monkeypatch):
    """Nothing waits within a step; what is to be saved does, and is not saved."""
    module, trainer, callback = Net(), Scaled(scaler=False), FiniteLoss()
    monkeypatch.setattr(Net, "device", property(lambda self: torch.device("meta")))
    nan = float("nan")
    taken, text = steps(callback, trainer, module, [1.0, nan, 1.0])
    assert taken == 2
    assert "global step 1" in text
    assert "rows 1 of" in text
    module, trainer, callback = Net(), Scaled(scaler=False), FiniteLoss()
    assert steps(callback, trainer, module, [1.0, nan])[0] == 2
    with pytest.raises(UserError, match="global step 1"):
        callback.on_save_checkpoint(trainer, module, {})


# ---- several processes -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step(here):
    write(here, trainer={"devices": 2, "strategy": "ddp"})
    done = run_process("fit", "--config", "tiny.yaml", *QUIET, cwd=Path(here))
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("mebert: error: ")]
    assert len(lines) == 2, done.stderr
    assert len({re.search(r"global step \d+", line).group() for line in lines}) == 1
    for line in lines:
        assert len(re.findall(r"process \d: loss nan", line)) == 1, "the process whose row it was"
