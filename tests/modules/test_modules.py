"""MultiExitModule and ProtoExitModule: prototypes, the choice of operating points, checkpoints."""

import math
from functools import partial

import pytest
import torch
from modules import recipes
from modules.recipes import labelled, loader
from tiny import quiet_trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mebert.metrics.curve import ExitRecord, replay, speedup_layers
from mebert.models import model_inputs
from mebert.modules import MultiExitModule, ProtoExitModule
from mebert.policies import Entropy, HybridDistanceEntropy, hybrid_indicator, normalised_entropy

make = partial(recipes.make, ProtoExitModule)


@pytest.mark.parametrize("dar", ["hinge", "softmax"])
def test_dar_reaches_the_backbone_and_the_prototypes_move(dar):
    module = make(dar=dar, alpha=1.0, margin=20.0)  # a margin that random features do not keep
    batch = labelled()
    outputs = module(**model_inputs(batch))
    parts = module.compute_loss(outputs, batch)
    torch.testing.assert_close(parts["loss"], parts["ce"] + parts["dar"])
    bank = module.model.prototypes
    assert bank.seen.all()
    # The prototypes are the class means of g in this first batch.
    g = bank.embed(outputs.features[:-1]).detach()
    for label in range(3):
        torch.testing.assert_close(bank.prototypes[:, label], g[:, batch["labels"] == label].mean(1))
    (parts["loss"] - module.weighted_exit_loss(outputs, batch)).backward(retain_graph=True)
    first = module.model.encoder.encoder.layer[0].output.dense.weight.grad
    assert first.abs().sum() > 0
    assert bank.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dar", ["hinge", "softmax"])
def test_the_loss_of_de3_by_loops(dar):
    """Mean CE + alpha DAR, sample by sample, with the Euclidean distances to the prototypes as the batch moved them."""
    module, batch = make(dar=dar, alpha=0.3, margin=2.0, spread=0.1), labelled()
    outputs = module(**model_inputs(batch))
    loss, bank = module.compute_loss(outputs, batch)["loss"], module.model.prototypes
    terms = []
    for m in range(2):
        for h, y in zip(outputs.features[m], batch["labels"].tolist(), strict=True):
            d = [float((bank.weight[m] @ h + bank.bias[m] - c).norm().detach()) for c in bank.prototypes[m]]
            nearest = min(d[k] for k in range(3) if k != y)
            hinge, log_sum = max(0.0, d[y] - nearest + 2.0), math.log(sum(math.exp(-x) for x in d))
            terms.append(hinge if dar == "hinge" else d[y] + log_sum)
    ce = sum(float(F.cross_entropy(z, batch["labels"]).detach()) for z in outputs.logits) / 3
    assert float(loss) == pytest.approx(ce + 0.3 * sum(terms) / len(terms), rel=1e-5)


def test_prototypes_move_without_their_loss_but_not_in_evaluation():
    module, batch = make(dar="none"), labelled()
    parts = module.compute_loss(module(**model_inputs(batch)), batch)
    torch.testing.assert_close(parts["loss"], parts["ce"])
    assert module.model.prototypes.seen.all()
    before = module.model.prototypes.prototypes.clone()
    module.eval().compute_loss(module(**model_inputs(batch)), {**batch, "labels": batch["labels"].flip(0)})
    assert torch.equal(before, module.model.prototypes.prototypes)


def test_ablations_by_setting():
    plain = make(prototypes=False)
    assert plain.model.prototypes is None
    assert isinstance(plain.policy, Entropy)
    assert set(plain.score_policies()) == {"entropy", "max_prob", "margin"}
    entropy_only = make(lam=0.0)
    assert entropy_only.policy == HybridDistanceEntropy(0.0, lam=0.0)


def proto_record(module, samples=200):
    """A record whose distance ratio tells right from wrong and whose entropy does not."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (samples,), generator=generator)
    logits = torch.randn(3, samples, 3, generator=generator) * 2
    logits[-1] = torch.nn.functional.one_hot(labels, 3) * 9.0
    right = logits.argmax(-1) == labels
    noise = torch.rand(3, samples, generator=generator)
    dr = torch.where(right, noise * 0.4, 0.6 + noise * 0.4)
    entropy = normalised_entropy(logits)
    scores = {"entropy": entropy, "dr": dr, "edr": hybrid_indicator(dr, entropy, module.policy.lam)}
    return ExitRecord(logits, labels, torch.arange(samples), torch.full((samples,), 9), scores)


def test_lambda_and_threshold_are_chosen_on_the_record():
    module = make(target_speedup=1.5)
    record = proto_record(module)
    module.choose_operating_points(record, targets=(1.2, 2.0, 99.0))
    assert module.policy.lam == max(module.lam_grid)  # the distance ratio is the informative part
    torch.testing.assert_close(
        record.scores["edr"], hybrid_indicator(record.scores["dr"], record.scores["entropy"], module.policy.lam)
    )
    assert set(module.operating_points["edr"]) == {1.2, 1.5, 2.0}  # 99x is out of reach and left out
    for name, points in module.operating_points.items():
        for target, threshold in points.items():
            assert speedup_layers(replay(record.scores[name], threshold), (1, 2, 3)) >= target
    assert module.policy.threshold == pytest.approx(module.operating_points["edr"][1.5])


def test_fixed_lambda_and_threshold_are_kept():
    module = make(lam=0.5, threshold=0.125)
    module.choose_operating_points(proto_record(module))
    assert module.policy == HybridDistanceEntropy(0.125, lam=0.5)


def test_dropout_is_on_in_training_and_off_in_evaluation():
    modes = []

    class Spy(MultiExitModule):
        def compute_loss(self, outputs, batch):
            drops = [m for m in self.model.modules() if isinstance(m, torch.nn.Dropout)]
            modes.append((self.trainer.state.stage.value, {m.training for m in drops}))
            return super().compute_loss(outputs, batch)

    quiet_trainer().fit(recipes.make(Spy, dropout=0.1), loader(4), loader(4))
    assert ("train", {True}) in modes
    assert ("validate", {False}) in modes
    assert ("train", {False}) not in modes


def test_training_learns_and_the_checkpoint_carries_policy_and_prototypes(tmp_path):
    module = make(learning_rate=5e-3, pooling="mean")
    fit = quiet_trainer(max_epochs=25)
    fit.fit(module, loader(4))
    assert fit.callback_metrics["train/ce"] < 0.4  # log 3 = 1.1 at the start
    module.policy = HybridDistanceEntropy(0.3, lam=2.0).bind(module.model)
    module.operating_points = {"edr": {2.0: 0.3}}
    fit.save_checkpoint(tmp_path / "x.ckpt")
    loaded = ProtoExitModule.load_from_checkpoint(tmp_path / "x.ckpt")
    assert loaded.policy == module.policy
    assert loaded.operating_points == {"edr": {2.0: 0.3}}
    assert torch.equal(loaded.model.prototypes.prototypes, module.model.prototypes.prototypes)
    batch = labelled()
    module.eval(), loaded.eval()
    torch.testing.assert_close(loaded(**model_inputs(batch)).logits, module(**model_inputs(batch)).logits)


def test_padding_rows_do_not_count_in_the_evaluation_loss():
    module = recipes.make(MultiExitModule)
    rows = list(loader(1).dataset)
    twice = [*rows, {**rows[0], "index": torch.tensor(-1)}, {**rows[1], "index": torch.tensor(-1)}]
    run = quiet_trainer()
    plain = run.validate(module, DataLoader(rows, batch_size=8), verbose=False)[0]["val/loss"]
    padded = run.validate(module, DataLoader(twice, batch_size=8), verbose=False)[0]["val/loss"]
    assert padded == pytest.approx(plain)
