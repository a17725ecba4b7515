"""Learnt exit weights: the loss by loops, and the rate at which the weights move."""

import math
from functools import partial

import pytest
import torch
from modules import recipes
from modules.recipes import Watch, labelled, loader
from tiny import quiet_trainer
from torch.nn import functional as F

from mebert.models import model_inputs
from mebert.modules import LearnedWeightsModule

make = partial(recipes.make, LearnedWeightsModule)


@pytest.mark.parametrize("num_labels", [3, 1])
def test_loss_by_loops(num_labels):
    module, batch = make(num_labels=num_labels), labelled(num_labels=num_labels)
    with torch.no_grad():
        module.log_variances.copy_(torch.tensor([0.3, -0.2, 0.5]))
    logits = module.model(**model_inputs(batch)).logits
    expected = 0.0
    for z, s in zip(logits, (0.3, -0.2, 0.5), strict=True):
        if num_labels == 1:
            expected = expected + math.exp(-s) * F.mse_loss(z.squeeze(-1), batch["labels"]) / 2 + s / 2
        else:
            expected = expected + math.exp(-s) * F.cross_entropy(z, batch["labels"]) + s / 2
    parts = module.compute_loss(module(**model_inputs(batch)), batch)
    torch.testing.assert_close(parts["loss"], expected)
    assert [float(parts[f"weight_0{i}"]) for i in (1, 2, 3)] == pytest.approx(
        [math.exp(-0.3), math.exp(0.2), math.exp(-0.5)]
    )
    assert module.eval().compute_loss(module(**model_inputs(batch)), batch).keys() == {"loss"}


def test_weights_move_at_their_own_rate():
    module, watch = make(weights_learning_rate=0.05, learning_rate=1e-4, weight_decay=0.1), Watch()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    quiet_trainer(watch).fit(module, loader(1, padded=True))
    # Adam's first step is the rate itself; CE begins above 1/2, so that every weight exp(-s) falls.
    torch.testing.assert_close(module.log_variances.detach(), torch.full((3,), 0.05), rtol=1e-3, atol=0)
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in module.named_parameters()}
    assert all(0 < size < 2e-4 for name, size in moved.items() if name != "log_variances"), moved
    # By its rate alone: clipping by the norm of all gradients must see the loss's own gradient, CE - 1/2 at s = 0.
    with torch.no_grad():
        for name, value in before.items():
            module.get_parameter(name).copy_(value)
    losses = module.eval().per_exit_losses(module(**model_inputs(labelled())), labelled())
    torch.testing.assert_close(watch.steps[0]["log_variances"], 0.5 - losses.detach())
