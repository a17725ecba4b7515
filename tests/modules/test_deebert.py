"""DeeBERT's two stages in one run; what it shares with FastBERT is tested there."""

import copy

import pytest
import torch
from modules import recipes
from modules.recipes import Watch, assert_same_gradients, gradients, labelled, loader
from tiny import quiet_trainer
from torch.nn import functional as F

from mebert.models import model_inputs
from mebert.modules import DeeBERTModule


def make(**settings):
    return recipes.make(DeeBERTModule, **{"student_learning_rate": 1e-2, "dropout": None, **settings})


def test_stage_2_is_the_sum_of_the_earlier_exits_losses():
    module, batch = make(dropout=0.0).train(), labelled()
    outputs = module(**model_inputs(batch))  # no trainer: stage 2
    plain = module.model(**model_inputs(batch))
    torch.testing.assert_close(outputs.logits, plain.logits)
    expected = sum(F.cross_entropy(plain.logits[i], batch["labels"]) for i in range(2))
    loss = module.compute_loss(outputs, batch)["loss"]
    torch.testing.assert_close(loss, expected)
    found = gradients(module, loss)
    assert found.keys() == {n for n, _ in module.model.named_parameters() if n.startswith(("exits.0.", "exits.1."))}
    wanted = gradients(module, expected)
    assert_same_gradients(found, {name: wanted[name] for name in found})


@pytest.mark.parametrize("head", ["mlp", "linear"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_stage_2_begins_with_the_last_exits_pooler(head, accumulate):
    module, watch = make(stage1_epochs=1, head=head), Watch()
    begin = copy.deepcopy(module.model.state_dict())
    quiet_trainer(watch, max_epochs=2, accumulate_grad_batches=accumulate).fit(module, loader(4))
    stage1, stage2 = watch.after[3], watch.after[4:]
    for name, value in stage1.items():
        if name.startswith(("exits.0.", "exits.1.")):
            assert torch.equal(value, begin[name]), "stage 1 leaves the earlier exits alone"
    for state in stage2:
        for name, value in state.items():
            if not name.startswith(("exits.0.", "exits.1.")):
                assert torch.equal(value, stage1[name]), "stage 2 leaves the rest alone"
    pooler = "exits.{}.classifier.0.weight"
    if head == "mlp":
        assert not torch.equal(stage1[pooler.format(2)], begin[pooler.format(2)])
        # The copy is taken before the first step of stage 2; with Adam no weight moves further than the rate.
        moved = (stage2[0][pooler.format(0)] - stage1[pooler.format(2)]).abs().max()
        assert moved <= 1.01e-2
        assert not torch.allclose(stage1[pooler.format(0)], stage1[pooler.format(2)], atol=2e-2)
        last = watch.after[-1]
        assert not torch.equal(last[pooler.format(0)], last[pooler.format(1)]), "each exit goes on with its own"
