"""Tiny modules of every recipe, batches with labels, and what a training does at each of its steps."""

import copy

import lightning as L
import torch
from tiny import tiny_batch, tiny_config
from torch.utils.data import DataLoader

__all__ = ["Watch", "assert_same_gradients", "gradients", "labelled", "loader", "make"]


def make(kind, layers=3, family="bert", spread=0.0, **settings):
    """A module in training mode without dropout; `spread` is the size of the noise added to all weights."""
    torch.manual_seed(0)
    more = {"num_hidden_layers": layers} if family == "bert" else {}
    settings = {"num_labels": 3, "dropout": 0.0, "learning_rate": 1e-3, **settings}
    module = kind(encoder_config=tiny_config(family, **more), **settings)
    if spread:
        with torch.no_grad():
            for parameter in module.model.parameters():
                parameter.add_(torch.randn_like(parameter) * spread)
    return module.train()


def labelled(rows=6, seed=0, num_labels=3):
    labels = torch.arange(rows) % num_labels if num_labels > 1 else torch.linspace(0, 5, rows)
    return {**tiny_batch(rows, seed=seed), "labels": labels, "index": torch.arange(rows)}


def loader(batches=3, rows=6, padded=False):
    """Batches of texts; batch i has the rows of `labelled(seed=i)` where they are padded."""
    items = []
    for i in range(batches):
        batch = labelled(rows, seed=i)
        if not padded:
            batch |= tiny_batch(rows, padded=False, seed=i)
        items += [{name: values[row] for name, values in batch.items()} for row in range(rows)]
    return DataLoader(items, batch_size=rows)


class Watch(L.Callback):
    """The model's weights before and after every batch; epoch, rates and gradients of every step of the optimiser."""

    def __init__(self):
        self.before, self.after, self.epochs, self.rates, self.steps = [], [], [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.before.append(copy.deepcopy(module.model.state_dict()))

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.epochs.append(trainer.current_epoch)
        self.rates.append(sorted(group["lr"] for group in optimizer.param_groups))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.after.append(copy.deepcopy(module.model.state_dict()))
        if trainer.global_step > len(self.steps):
            named = {name.removeprefix("model."): p.grad for name, p in module.named_parameters()}
            self.steps.append({name: grad.clone() for name, grad in named.items() if grad is not None})


def gradients(module, loss):
    """The gradients of a loss by the name of the model's parameter."""
    module.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in module.model.named_parameters() if p.grad is not None}


def assert_same_gradients(found, wanted, rtol=1e-4, atol=1e-6):
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=rtol, atol=atol, msg=name)
