"""FastBERT's two stages in one run."""

import copy
import csv

import lightning as L
import pytest
import torch
from modules import recipes
from modules.recipes import labelled, loader, trainer
from runs import experiment, newest, run, write_config
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from mebert.errors import UserError
from mebert.models import model_inputs
from mebert.modules import FastBERTModule
from mebert.modules.optimization import warmup_and_decay
from mebert.modules.two_stage import staged_outputs


def make(**settings):
    return recipes.make(FastBERTModule, **{"dropout": None, **settings})


class Watch(L.Callback):
    """Copies of the weights, and what was on, at every training step."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.steps.append(
            {
                "epoch": trainer.current_epoch,
                "trained": {name for name, p in module.model.named_parameters() if p.grad is not None},
                "rates": {group["lr"] for group in optimizer.param_groups},
                "weights": copy.deepcopy(module.model.state_dict()),
                "dropout": {
                    name: part.training
                    for name, part in (
                        ("layers", module.model.encoder),
                        ("teacher", module.model.exits[-1]),
                        ("students", module.model.exits[0]),
                    )
                },
            }
        )


def is_student(name):
    return name.startswith("exits.") and not name.startswith("exits.2.")


def test_each_stage_trains_its_own_part_and_leaves_the_other_alone(tmp_path):
    module, watch = make(stage1_epochs=1, weight_decay=0.1), Watch()
    names = {name for name, _ in module.model.named_parameters()}
    trainer(tmp_path, watch, max_epochs=3).fit(module, loader(), loader())
    assert [step["epoch"] for step in watch.steps] == [0] * 3 + [1] * 3 + [2] * 3
    for before, after in zip(watch.steps, watch.steps[1:], strict=False):
        first = before["epoch"] == 0
        assert before["trained"] == {name for name in names if is_student(name) != first}
        on = before["dropout"]
        assert on == {"layers": first, "teacher": first, "students": True}
        for name, value in before["weights"].items():
            if is_student(name) == first:  # neither a gradient nor weight decay
                assert torch.equal(value, after["weights"][name]), name
    last = watch.steps[-1]["weights"]
    name = "exits.0.pooling.project.weight"
    assert not torch.equal(last[name], watch.steps[3]["weights"][name])


def test_stage_losses_by_hand():
    module, batch = make(dropout=0.0).train(), labelled()
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


def test_stage_1_is_plain_fine_tuning(tmp_path):
    watch = Watch()
    module = make(stage1_epochs=2, dropout=0.0, warmup_ratio=0.0)
    reference = copy.deepcopy(module.model)
    trainer(tmp_path, watch, max_epochs=3).fit(module, loader())
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, 6)
    for _ in range(2):
        for batch in loader():
            F.cross_entropy(reference.train().last_exit(**model_inputs(batch)), batch["labels"]).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    after_stage_1 = watch.steps[6]["weights"]
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(after_stage_1[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_rates_rise_and_fall_within_their_stage(tmp_path):
    watch = Watch()
    module = make(stage1_epochs=2, student_learning_rate=1e-2, warmup_ratio=0.5)
    trainer(tmp_path, watch, max_epochs=4, accumulate_grad_batches=2).fit(module, loader(4))
    rates = [sorted(step["rates"])[-1] for step in watch.steps]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 5e-4, 0, 5e-3, 1e-2, 5e-3])
    assert all(min(step["rates"]) == 0 for step in watch.steps)


def test_the_schedule_of_a_stage_is_that_of_transformers():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 3, 10)
    for step in range(10):
        assert warmup_and_decay(step + 7, 7, 17, 0.3) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_run_without_stage_2_is_refused(tmp_path, epochs):
    with pytest.raises(UserError, match=f"stage1_epochs is 3 and trainer.max_epochs {epochs}.*max_epochs above"):
        trainer(tmp_path, max_epochs=epochs).fit(make(), loader())
    trainer(tmp_path, fast_dev_run=True).fit(make(), loader())


def logged(folder, name):
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_both_stages_in_one_fit_and_the_best_checkpoint_is_of_stage_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = experiment()
    settings["model"]["class_path"] = "mebert.FastBERTModule"
    del settings["model"]["init_args"]["prototype_dim"]
    settings["model"]["init_args"] |= {"stage1_epochs": 2, "student_learning_rate": 1e-2}
    settings["trainer"]["max_epochs"] = 4
    settings["test_after_fit"] = False
    write_config(tmp_path, settings)
    assert run("fit", "--config", "tiny.yaml") == 0
    folder = newest(tmp_path)
    scores, teacher = logged(folder, "val/score"), logged(folder, "val/exit_03/acc")
    assert scores[:2] == pytest.approx([value - 2 for value in teacher[:2]])
    assert max(scores[:2]) < min(scores[2:])
    assert teacher[1:] == [teacher[1]] * 3, "the teacher does not change in stage 2"
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] >= 2
    assert best["mebert"]["operating_points"]["entropy"], "thresholds are chosen"
