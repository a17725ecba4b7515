"""GEEP's one-step loss against a plain recomputation, and its model through the command line."""

from functools import partial

import pytest
import torch
from modules import recipes
from modules.recipes import assert_same_gradients, gradients, labelled
from tiny import tiny_batch
from torch.nn import functional as F

from mebert.models import model_inputs
from mebert.modules import GEEPModule
from mebert.policies import Entropy

make = partial(recipes.make, GEEPModule, spread=0.1)


def plain_loss(module, batch):
    """The paper's sum, every k from the embeddings anew: k layers, the last layer, the teacher."""
    model, walk = module.model, module.model.adapter
    students, layers, regression = model.num_exits - 1, model.num_layers, model.num_labels == 1
    teacher = model.exit(students)

    def after(k):
        return walk.advance(walk.start(**model_inputs(batch)), k)

    def answer(head, hidden):
        return head.classify(head.pool(hidden, batch["attention_mask"]))

    loss, full = torch.zeros(()), None
    for k in sorted({*range(1, students + 1), layers - 1}):
        state = after(k)
        full = answer(teacher, walk.layer(layers - 1, state.hidden, state.layer_mask))
        loss = loss + (
            F.mse_loss(full[:, 0], batch["labels"]) if regression else F.cross_entropy(full, batch["labels"])
        )
    target = full.detach() if regression else full.detach().softmax(-1)
    for i in range(1, students + 1):
        student = answer(model.exit(i - 1), after(i).hidden)
        kl = F.kl_div(student.log_softmax(-1), target, reduction="batchmean")
        loss = loss + (F.mse_loss(student, target) if regression else kl)
    return loss


@pytest.mark.parametrize(
    ("layers", "students", "num_labels", "family"),
    [
        *((*case, "bert") for case in [(5, 3, 3), (5, 4, 3), (5, 1, 3), (2, 1, 3), (4, None, 3), (5, 2, 1)]),
        *((3, None, 3, family) for family in ("albert", "distilbert", "electra")),
    ],
)
def test_loss_and_all_gradients_equal_the_unshared_form(layers, students, num_labels, family):
    module = make(layers, family, num_students=students, num_labels=num_labels)
    batch = labelled(num_labels=num_labels)
    parts = module.compute_loss(module(**model_inputs(batch)), batch)
    expected = plain_loss(module, batch)
    torch.testing.assert_close(parts["loss"], expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts["loss"], parts["ce"] + parts["kd"])
    found, wanted = gradients(module, parts["loss"]), gradients(module, expected)
    assert found.keys() == dict(module.model.named_parameters()).keys(), "everything is trained"
    assert_same_gradients(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("layers", "students", "passes"), [(5, 3, 8), (5, 4, 8), (6, 4, 10)])
def test_layers_run_at_most_l_plus_e_times(layers, students, passes):
    module = make(layers, num_students=students)
    calls = []
    for index, layer in enumerate(module.model.encoder.encoder.layer):
        layer.register_forward_hook(lambda *_, i=index: calls.append(i))
    module(**model_inputs(labelled()))
    assert len(calls) == passes  # L + E; one less where the last student stands below the last layer
    assert sorted(set(calls)) == list(range(layers))
    calls.clear()
    module.eval()(**model_inputs(labelled()))
    assert calls == list(range(layers))


@pytest.mark.parametrize(
    ("layers", "exits"), [(12, [*range(1, 9), 12]), (6, [1, 2, 3, 4, 6]), (3, [1, 2, 3]), (2, [1, 2])]
)
def test_default_number_of_students(layers, exits):
    assert list(make(layers).model.exit_layers) == exits


def test_the_papers_settings_are_the_defaults():
    module = make(5)
    assert module.policy == Entropy(0.0), "full depth until validation data has chosen, not the paper's 0.3"
    assert (module.model.pooling, module.model.head) == ("fastbert", "mlp")
    assert make(5, threshold=0.1, pooling="mean").policy == Entropy(0.1)


def test_class_weights_weigh_the_teachers_cross_entropy():
    module, batch = make(5, class_weights=[1.0, 1.0, 4.0]), labelled()
    outputs = module(**model_inputs(batch))
    weights = torch.tensor([1.0, 1.0, 4.0])[batch["labels"]]
    expected = sum((F.cross_entropy(t, batch["labels"], reduction="none") * weights).mean() for t in outputs.shared)
    torch.testing.assert_close(module.compute_loss(outputs, batch)["ce"], expected.detach())


def test_padding_does_not_change_the_students():
    module = make().eval()
    short = tiny_batch(batch=3, tokens=5, padded=False)
    longer = {name: F.pad(values, (0, 7)) for name, values in short.items()}
    with torch.no_grad():
        torch.testing.assert_close(module(**longer).logits, module(**short).logits, rtol=1e-5, atol=1e-5)
