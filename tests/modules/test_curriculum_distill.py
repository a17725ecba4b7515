"""CurriculumDistillModule: the loss of every kind of distillation, who gets gradient, and its settings."""

from functools import partial

import pytest
import torch
from modules import recipes
from modules.recipes import labelled
from torch.nn import functional as F

from mebert import CurriculumDistillModule, MultiExitModel
from mebert.models import ExitOutputs

make = partial(recipes.make, CurriculumDistillModule)


def random_outputs(rows=6, exits=3, hidden=32):
    torch.manual_seed(1)
    return ExitOutputs(
        torch.randn(exits, rows, 3, requires_grad=True), torch.randn(exits, rows, hidden, requires_grad=True)
    )


def ce(outputs, batch, e):
    return F.cross_entropy(outputs.logits[e], batch["labels"])


def kd(outputs, student, teacher, t):
    p, q = (outputs.logits[teacher] / t).log_softmax(-1), (outputs.logits[student] / t).log_softmax(-1)
    return t * t * (p.exp() * (p - q)).sum(-1).mean()


def fd(outputs, student, teacher):
    return (1 - F.cosine_similarity(outputs.features[student], outputs.features[teacher], dim=-1)).mean()


@pytest.mark.parametrize(
    ("kind", "teachers"), [("vanilla", [[2], [2]]), ("layerwise", [[1], [2]]), ("both", [[1, 2], [2]])]
)
def test_loss_of_every_kind_by_hand(kind, teachers):
    outputs, batch = random_outputs(), labelled()
    module = make(distillation=kind, logit_weight=0.7, temperature=3.0, feature_weight=0.4)
    parts = module.compute_loss(outputs, batch)
    logits = [sum(kd(outputs, s, t, 3.0) for t in ts) / len(ts) for s, ts in enumerate(teachers)]
    features = [sum(fd(outputs, s, t) for t in ts) / len(ts) for s, ts in enumerate(teachers)]
    early = [0.3 * ce(outputs, batch, e) + 0.7 * logits[e] + 0.4 * features[e] for e in range(2)]
    torch.testing.assert_close(parts["loss"], (sum(early) + ce(outputs, batch, 2)) / 3)
    torch.testing.assert_close(parts["kd"], sum(logits).detach() / 3)
    torch.testing.assert_close(parts["fd"], sum(features).detach() / 3)
    torch.testing.assert_close(parts["ce"], sum(ce(outputs, batch, e) for e in range(3)).detach() / 3)


def test_depth_weights_and_class_weights_count_in_both_parts():
    outputs, batch = random_outputs(), labelled()
    module = make(
        distillation="layerwise", logit_weight=0.5, temperature=1.0, exit_weights="depth", class_weights=[1.0, 2.0, 3.0]
    )
    weight = torch.tensor([1.0, 2.0, 3.0])[batch["labels"]]
    weighted = [(weight * F.cross_entropy(z, batch["labels"], reduction="none")).mean() for z in outputs.logits]
    early = [0.5 * weighted[e] + 0.5 * kd(outputs, e, e + 1, 1.0) for e in range(2)]
    by_hand = early[0] / 6 + early[1] / 3 + weighted[2] / 2
    torch.testing.assert_close(module.compute_loss(outputs, batch)["loss"], by_hand)


def test_distillation_alone_does_not_move_the_last_exit():
    outputs, batch = random_outputs(), labelled()
    module = make(distillation="both", logit_weight=1.0, feature_weight=1.0)
    (3 * module.compute_loss(outputs, batch)["loss"] - ce(outputs, batch, 2)).backward()
    torch.testing.assert_close(outputs.logits.grad[-1], torch.zeros(6, 3), atol=1e-6, rtol=0)
    assert outputs.logits.grad[:-1].abs().sum() > 0
    assert outputs.features.grad[-1].abs().sum() == 0
    assert outputs.features.grad[:-1].abs().sum() > 0


def test_projection_starts_as_identity_is_trained_and_is_not_saved(tmp_path):
    outputs, batch = random_outputs(), labelled()
    plain = make(distillation="layerwise", feature_weight=0.5).compute_loss(outputs, batch)["loss"]
    module = make(distillation="layerwise", feature_weight=0.5, projection=True)
    loss = module.compute_loss(outputs, batch)["loss"]
    torch.testing.assert_close(loss, plain)
    loss.backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in module.projections)
    module.model.save_pretrained(tmp_path / "model")
    saved = MultiExitModel.from_pretrained(tmp_path / "model")
    assert not any("projection" in name for name in saved.state_dict())


def test_one_exit_or_no_distillation_is_joint_training():
    one = make(distillation="layerwise", feature_weight=0.5, projection=True, exit_layers=[3])
    for module, exits in ((one, 1), (make(distillation="none"), 3)):
        outputs, batch = random_outputs(exits=exits), labelled()
        parts = module.compute_loss(outputs, batch)
        assert set(parts) == {"loss", "ce"}
        torch.testing.assert_close(parts["loss"], sum(ce(outputs, batch, e) for e in range(exits)) / exits)


def test_regression_distils_values():
    module = make(distillation="vanilla", num_labels=1, logit_weight=0.5)
    torch.manual_seed(3)
    outputs = ExitOutputs(torch.randn(3, 6, 1), torch.randn(3, 6, 32))
    labels = torch.rand(6)
    mse = [(outputs.logits[e, :, 0] - labels).square().mean() for e in range(3)]
    to_last = [(outputs.logits[e] - outputs.logits[2]).square().mean() for e in range(2)]
    by_hand = (sum(0.5 * mse[e] + 0.5 * to_last[e] for e in range(2)) + mse[2]) / 3
    torch.testing.assert_close(module.compute_loss(outputs, {**labelled(), "labels": labels})["loss"], by_hand)
