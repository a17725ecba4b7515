"""How long the training will be, by which a pacing tells the time: as long as Lightning makes it."""

import warnings

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from tiny import quiet_trainer
from torch.utils.data import DataLoader

from mebert.curriculum.sampler import planned_batches
from mebert.errors import UserError


class Counter(BoringModel):
    """Counts its training batches."""

    batches = 0

    def training_step(self, batch):
        self.batches += 1
        return self.layer(batch).sum()


@pytest.mark.parametrize(
    ("settings", "epoch", "total"),
    [
        ({"max_epochs": 3}, 10, 30),
        ({"max_epochs": 3, "limit_train_batches": 4}, 4, 12),
        ({"max_epochs": 2, "limit_train_batches": 0.35}, 3, 6),
        ({"max_epochs": -1, "max_steps": 7}, 10, 7),
        # 3 steps an epoch: of 4, 4 and 2 batches
        ({"max_epochs": -1, "max_steps": 9, "accumulate_grad_batches": 4}, 10, 30),
        ({"max_epochs": 3, "max_steps": 12}, 10, 12),
        ({"max_epochs": 3, "accumulate_grad_batches": 4}, 10, 30),
        ({"fast_dev_run": 2}, 2, 2),
    ],
    ids=str,
)
def test_the_plan_is_what_lightning_then_runs(settings, epoch, total):
    trainer, module = quiet_trainer(**settings), Counter()
    assert planned_batches(trainer, 10) == (epoch, total)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Lightning thinks of so small a training
        trainer.fit(module, DataLoader(torch.ones(20, 32), batch_size=2))
    assert module.batches == total


def test_without_a_trainer_the_plan_is_one_epoch():
    assert planned_batches(None, 10) == (10, 10)


@pytest.mark.parametrize("settings", [{"max_epochs": -1}, {"max_epochs": -1, "max_time": "00:00:01:00"}], ids=str)
def test_a_training_without_a_planned_end_is_told(settings):
    with pytest.raises(UserError, match=r"give trainer\.max_epochs or trainer\.max_steps"):
        planned_batches(quiet_trainer(**settings), 10)
