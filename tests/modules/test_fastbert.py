"""FastBERT's two stages in one run."""

import copy
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from modules import recipes
from modules.recipes import Watch, labelled, loader
from runs import experiment, newest, read_csv, run, write_config
from tiny import quiet_trainer
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from mebert.errors import UserError
from mebert.models import model_inputs
from mebert.modules import FastBERTModule
from mebert.modules.two_stage import staged_outputs

make = partial(recipes.make, FastBERTModule)


class Stages(Watch):
    """Also which parts have their dropout on."""

    def __init__(self):
        super().__init__()
        self.dropout = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        super().on_before_optimizer_step(trainer, module, optimizer)
        self.dropout.append([part.training for part in (module.model.encoder, *module.model.exits[::2])])


def is_student(name):
    return name.startswith("exits.") and not name.startswith("exits.2.")


def test_each_stage_trains_its_own_part_and_leaves_the_other_alone():
    module, watch = make(dropout=None, stage1_epochs=1, weight_decay=0.1), Stages()
    names = {name for name, _ in module.model.named_parameters()}
    quiet_trainer(watch, max_epochs=3).fit(module, loader(), loader())
    assert watch.epochs == [0] * 3 + [1] * 3 + [2] * 3
    for epoch, trained, on, before, after in zip(
        watch.epochs, watch.steps, watch.dropout, watch.before, watch.after, strict=True
    ):
        first = epoch == 0
        assert trained.keys() == {name for name in names if is_student(name) != first}
        assert on == [first, True, first], "layers, first student, teacher"
        for name, value in before.items():
            if is_student(name) == first:  # neither a gradient nor weight decay
                assert torch.equal(value, after[name]), name
    name = "exits.0.pooling.project.weight"
    assert not torch.equal(watch.after[-1][name], watch.before[3][name])


def test_stage_losses_by_hand():
    module, batch = make(), labelled()
    plain = module.model(**model_inputs(batch)).logits
    second = staged_outputs(module.model, model_inputs(batch), second=True)
    torch.testing.assert_close(second.logits, plain)
    p = plain[-1].detach().softmax(-1)
    expected = sum((p * (p.log() - plain[i].log_softmax(-1))).sum(-1).mean() for i in range(2))
    parts = module.compute_loss(second, batch)  # no trainer: stage 2
    torch.testing.assert_close(parts["loss"], expected)
    # Labels are not used.
    torch.testing.assert_close(module.compute_loss(second, {**batch, "labels": -batch["labels"]})["loss"], expected)
    parts["loss"].backward()
    assert {n for n, q in module.model.named_parameters() if q.grad is not None} == {
        n for n, _ in module.model.named_parameters() if is_student(n)
    }
    first = staged_outputs(module.model, model_inputs(batch), second=False)
    torch.testing.assert_close(first.logits, plain)


def test_stage_1_is_plain_fine_tuning():
    module, watch = make(stage1_epochs=2, warmup_ratio=0.0), Watch()
    reference = copy.deepcopy(module.model)
    quiet_trainer(watch, max_epochs=3).fit(module, loader())
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, 6)
    for _ in range(2):
        for batch in loader():
            F.cross_entropy(reference.train().last_exit(**model_inputs(batch)), batch["labels"]).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(watch.before[6][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_rates_rise_and_fall_within_their_stage():
    module, watch = make(stage1_epochs=2, student_learning_rate=1e-2, warmup_ratio=0.5), Watch()
    quiet_trainer(watch, max_epochs=4, accumulate_grad_batches=2).fit(module, loader(4))
    assert [rates[-1] for rates in watch.rates] == pytest.approx([0, 5e-4, 1e-3, 5e-4, 0, 5e-3, 1e-2, 5e-3])
    assert all(rates[0] == 0 for rates in watch.rates)


def test_the_released_schedule_ends_after_as_many_epochs_as_stage_1():
    module, watch = make(stage1_epochs=1, student_learning_rate=1e-2, student_schedule="released"), Watch()
    quiet_trainer(watch, max_epochs=4).fit(module, loader(10))
    warmup, end = 1, 10  # a tenth of stage 1's steps, as in its run_fastbert.py for both stages
    first = [step / warmup if step < warmup else (end - step) / (end - warmup) for step in range(10)]
    expected = [0.0] * 10 + [1e-2 * factor for factor in first] + [0.0] * 20
    assert [rates[-1] for rates in watch.rates[10:]] == pytest.approx(expected[10:])
    assert all(torch.equal(watch.after[20][name], value) for name, value in watch.after[-1].items())


class Scores(L.Callback):
    """Validation scores as a metric callback would log them."""

    def __init__(self, *scores):
        self.scores = list(scores)

    def on_validation_epoch_end(self, trainer, module):
        if not trainer.sanity_checking:
            module.log("val/score", torch.tensor(self.scores.pop(0)))


@pytest.mark.parametrize(
    ("scores", "every", "start"),
    [
        ([-1.5, -1.2, -1.2, 0.5, 0.5], {}, 6),  # batches trained before the start: the first of two equal epochs
        ([-1.5, float("nan"), -1.6, 0.5, 0.5], {}, 3),
        ([float("nan")] * 5, {}, 9),
        ([-1.5, -1.1, 0.5], {"check_val_every_n_epoch": 2}, 6),
        ([-1.0, -1.5, -1.6, 0.9, 0.9], {"limit_train_batches": 1}, 1),
        ([-1.9, -1.1, *[-1.2] * 4, *[0.9] * 4], {"val_check_interval": 1, "limit_train_batches": 2}, 2),
        (None, {"limit_val_batches": 0}, 9),
    ],
)
def test_stage_2_starts_from_the_best_validation_of_stage_1(scores, every, start):
    module, watch = make(stage1_epochs=3), Watch()
    callbacks = [watch] if scores is None else [watch, Scores(*scores)]
    quiet_trainer(*callbacks, max_epochs=5, **every).fit(module, loader(), loader())
    batches = len(watch.after) // 5
    names = [name for name in watch.after[0] if not is_student(name)]
    for state in watch.after[3 * batches :]:
        assert all(torch.equal(state[name], watch.after[start - 1][name]) for name in names)
    assert module._best is None


def test_a_resumed_training_knows_the_best_weights_of_stage_1(tmp_path):
    scores = [-1.1, -1.2, -1.3, 0.5, 0.6]
    whole = make(stage1_epochs=3)
    keep = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    quiet_trainer(Scores(*scores), keep, max_epochs=5, enable_checkpointing=True).fit(whole, loader(), loader())
    for epoch in range(4):
        module = make(stage1_epochs=3)
        path = str(tmp_path / f"epoch={epoch}.ckpt")
        quiet_trainer(Scores(*scores[epoch + 1 :]), max_epochs=5).fit(module, loader(), loader(), ckpt_path=path)
        for name, value in whole.state_dict().items():
            assert torch.equal(module.state_dict()[name], value), (epoch, name)
        held = torch.load(path, weights_only=True)["mebert"]
        assert ("best_of_stage_1" in held) == (epoch < 3)
    held["best_of_stage_1"] = {"score": 1.0, "weights": {}}
    with pytest.raises(UserError, match=r"best_of_stage_1 has other weights.*train anew"):
        make().on_load_checkpoint({"mebert": held})


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_run_without_stage_2_is_refused(epochs):
    with pytest.raises(UserError, match=f"stage1_epochs is 3 and trainer.max_epochs {epochs}.*max_epochs above"):
        quiet_trainer(max_epochs=epochs).fit(make(), loader())
    quiet_trainer(fast_dev_run=True).fit(make(), loader())


def test_both_stages_in_one_fit_and_the_best_checkpoint_is_of_stage_2(here):
    settings = experiment("FastBERTModule", stage1_epochs=2, student_learning_rate=1e-2)
    settings["trainer"]["max_epochs"] = 4
    settings["test_after_fit"] = False
    write_config(here, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    rows = [row for row in read_csv(newest(here) / "metrics.csv") if row["val/score"]]
    scores, teacher = ([float(row[name]) for row in rows] for name in ("val/score", "val/exit_03/acc"))
    assert scores[:2] == pytest.approx([value - 2 for value in teacher[:2]])
    assert max(scores[:2]) < min(scores[2:])
    assert teacher[2:] == [max(teacher[:2])] * 2, "stage 2 keeps the teacher of stage 1's best epoch"
    best = torch.load(newest(here) / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] >= 2
    assert best["mebert"]["operating_points"]["entropy"], "thresholds are chosen"
