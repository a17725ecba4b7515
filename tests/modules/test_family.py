"""PABEE, ElasticBERT, BERxiT and RomeBERT: losses and gradients against plain transcriptions of their formulas."""

import copy
import math
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from modules import recipes
from modules.recipes import Watch, assert_same_gradients, gradients, labelled, loader
from tiny import quiet_trainer, tiny_encoder
from torch.nn import functional as F

from mebert.models import MultiExitModel, model_inputs
from mebert.models.multi_exit import ExitOutputs
from mebert.modules import BERxiTModule, ElasticBERTModule, PABEEModule, RomeBERTModule
from mebert.modules.romebert import conflict, shared_matrices

make = partial(recipes.make, layers=4, spread=0.1)


def answers(module, batch):
    """The plain model's logits and features."""
    return module.model(**model_inputs(batch))


def fit(module, batches, **settings):
    """Train for an epoch; returns what was watched."""
    watch = Watch()
    quiet_trainer(watch, **settings).fit(module, loader(batches, padded=True))
    return watch


# ---- PABEE ---------------------------------------------------------------------------------------------------------


def test_pabee_exits_share_their_pooler_and_nothing_else():
    module, batch = make(PABEEModule), labelled()
    model = module.model
    outputs = answers(module, batch)
    pooler = model.exit(0).classifier[0]
    for index in range(4):  # the released code: one pooler, then the exit's own Linear
        own = model.exit(index).classifier[-1]
        expected = own(torch.tanh(F.linear(outputs.features[index], pooler.weight, pooler.bias)))
        torch.testing.assert_close(outputs.logits[index], expected)
    own = {id(model.exit(index).classifier[-1].weight) for index in range(4)}
    assert len(own) == 4
    alone = MultiExitModel(tiny_encoder(num_hidden_layers=4), 3, head="mlp")
    shared, single = (sum(p.numel() for p in m.exits.parameters()) for m in (model, alone))
    assert single - shared == 3 * (32 * 32 + 32)
    # One step moves the pooler once, by the sum of what all exits ask of it.
    found = gradients(module, module.compute_loss(outputs, batch)["loss"])
    names = [name for name in found if "classifier.0" in name]
    assert names == ["exits.0.classifier.0.weight", "exits.0.classifier.0.bias"]


# ---- ElasticBERT ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "exit_layers"), [("bert", None), ("bert", [2, 3, 4]), ("albert", None)])
def test_elasticbert_gradients_by_the_chain_rule(family, exit_layers):
    """G_i, at the output of segment i, by hand: (g_i + (E - i - 1) G_{i+1} through the segment) / (E - i)."""
    module, batch = make(ElasticBERTModule, family=family, exit_layers=exit_layers), labelled()
    model, walk = module.model, module.model.adapter
    outputs = module(**model_inputs(batch))
    torch.testing.assert_close(outputs.logits, answers(module, batch).logits)
    loss = module.compute_loss(outputs, batch)["loss"]
    ce = [F.cross_entropy(z, batch["labels"]) for z in answers(module, batch).logits]
    torch.testing.assert_close(loss, sum(ce))
    found = gradients(module, loss)

    module.zero_grad()
    states = [walk.start(**model_inputs(batch))]
    cuts = [states[0].hidden]  # each segment starts at a leaf, so that gradients stop there
    exits = model.num_exits
    losses = []
    for index, depth in enumerate(model.exit_layers):
        state = walk.advance(states[-1], depth)
        cuts.append(state.hidden)
        leaf = copy.copy(state)
        leaf.hidden = state.hidden.detach().requires_grad_()
        states.append(leaf)
        head = model.exit(index)
        losses.append(F.cross_entropy(head.classify(head.pool(leaf.hidden, leaf.attention_mask)), batch["labels"]))
    deeper = torch.zeros(())
    for index in reversed(range(exits)):
        losses[index].backward()  # fills the head's gradients and the leaf's
        leaf = states[index + 1].hidden
        # leaf.grad also holds what the segment above has sent down already
        own = leaf.grad - deeper
        combined = (own + (exits - index - 1) * deeper) / (exits - index)
        below = states[index].hidden if index else None
        cuts[index + 1].backward(combined)
        deeper = below.grad.clone() if below is not None else torch.zeros(())
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert_same_gradients(found, wanted)


# ---- BERxiT --------------------------------------------------------------------------------------------------------


def released_berxit(logits, features, scorer, labels, even, regression=False):
    """The released routine `alternate-lte`, row by row: the loss and, in it, the head's."""
    ce, lte, (exits, rows) = [], 0.0, logits.shape[:2]
    for z_i, h_i in zip(logits, features, strict=True):
        ce.append(F.mse_loss(z_i[:, 0], labels) if regression else F.cross_entropy(z_i, labels))
        for z, h, y in zip(z_i, h_i, labels, strict=True):
            wrong = abs(float(torch.tanh(z[0] - y).detach())) if regression else float(int(z.argmax()) != int(y))
            lte = lte + (1 / (1 + torch.exp(-(scorer.weight[0] @ h + scorer.bias[0]))) - wrong) ** 2 / (exits * rows)
    return (ce[-1] if even else sum(ce[:-1])) + lte, lte


@pytest.mark.parametrize("num_labels", [3, 1])
@pytest.mark.parametrize("even", [True, False])
def test_berxit_is_the_released_routine(even, num_labels):
    module, batch = make(BERxiTModule, num_labels=num_labels), labelled(num_labels=num_labels)
    module.even_batch = even
    outputs = answers(module, batch)
    parts = module.compute_loss(answers(module, batch), batch)
    parts_of = outputs.logits, outputs.features, module.model.exit_scorer, batch["labels"], even, num_labels == 1
    loss, lte = released_berxit(*parts_of)
    torch.testing.assert_close(parts["lte"], lte.detach())
    torch.testing.assert_close(parts["loss"], loss)
    found = gradients(module, parts["loss"])
    assert found.keys() == dict(module.model.named_parameters()).keys(), "each has one, as DDP expects"
    assert_same_gradients(without_zeros(found), without_zeros(gradients(module, loss)))


def without_zeros(found):
    return {name: gradient for name, gradient in found.items() if gradient.any()}


def test_berxit_where_no_exit_knows_anything():
    """By hand, six layers, three classes: CE is ln 3, the head's error 1/4. Before any step the released code measured
    1.349 and 5.738, of which 0.250 are the head's."""
    module, batch = recipes.make(BERxiTModule, layers=6), labelled()
    outputs = ExitOutputs(torch.zeros(6, 6, 3), torch.zeros(6, 6, module.model.feature_size))
    for even, loss, released in ((True, math.log(3) + 0.25, 1.349), (False, 5 * math.log(3) + 0.25, 5.738)):
        module.even_batch = even
        parts = module.compute_loss(outputs, batch)
        assert float(parts["loss"]) == pytest.approx(loss)
        assert float(parts["lte"]) == pytest.approx(0.25)
        assert loss == pytest.approx(released, rel=2e-3)


def test_berxit_without_a_head_is_the_routine_alternate():
    module, batch = make(BERxiTModule, routine="alternate"), labelled()
    ce = [F.cross_entropy(z, batch["labels"]) for z in answers(module, batch).logits]
    for even, expected in ((True, ce[-1]), (False, sum(ce))):
        module.even_batch = even
        parts = module.compute_loss(answers(module, batch), batch)
        torch.testing.assert_close(parts["loss"], expected)
        assert "lte" not in parts
    assert module.model.exit_scorer is None
    assert module.policy.name == "entropy"


class Turns(L.Callback):
    def __init__(self):
        self.last = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.last.append("last" in pl_module.loss_parts)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_berxit_takes_turns_by_the_batches_of_an_epoch(accumulate):
    turns = Turns()
    trainer = quiet_trainer(turns, max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(make(BERxiTModule), loader(3, padded=True))
    assert turns.last == [True, False, True] * 2


# ---- RomeBERT ------------------------------------------------------------------------------------------------------


def rome_parts(module, batch, gamma=0.9, t=3.0):
    """The last exit's loss and the other exits' part, term by term."""
    logits, y = module.model(**model_inputs(batch)).logits, batch["labels"]
    others = 0.0
    for z in logits[:-1]:
        p, log_q = (logits[-1].detach() / t).softmax(-1), (z / t).log_softmax(-1)
        kl = (p * (p.log() - log_q)).sum(-1).mean()
        others = others + (1 - gamma) * F.cross_entropy(z, y) + gamma * t * t * kl
    return F.cross_entropy(logits[-1], y), others


def test_romebert_loss():
    module, batch = make(RomeBERTModule), labelled()
    parts = module.compute_loss(answers(module, batch), batch)
    last, others = rome_parts(module, batch)
    torch.testing.assert_close(parts["loss"], last + others)
    torch.testing.assert_close(parts["last"], last.detach())
    assert_same_gradients(gradients(module, parts["loss"]), gradients(module, last + others))


def is_regularised(name):
    """What the released code regularises: matrices of the layers below the last."""
    below_last = name.startswith("encoder.encoder.layer.") and ".layer.3." not in name
    return below_last and "LayerNorm" not in name and "bias" not in name


@pytest.mark.parametrize(
    ("accumulate", "opposed", "projected"),
    [(1, False, "exits"), (2, False, "exits"), (1, True, "exits"), (2, True, "exits"), (2, True, "last")],
)
def test_romebert_gradients(accumulate, opposed, projected):
    gamma = 0.0 if opposed else 0.9
    module = make(RomeBERTModule, logit_weight=gamma, projected=projected)
    if opposed:  # the last exit wants the opposite of what the others want
        with torch.no_grad():
            for index in range(4):
                module.model.exit(index).classifier.load_state_dict(module.model.exit(0).classifier.state_dict())
            module.model.exit(3).classifier[-1].weight.neg_()
    watch = fit(module, 2 * accumulate, accumulate_grad_batches=accumulate)
    conflicts = []
    for step, found in enumerate(watch.steps):
        module.model.load_state_dict(watch.before[step * accumulate])
        g_last, g_others = {}, {}
        for i in range(accumulate):
            batch = labelled(seed=step * accumulate + i)
            for into, which in ((g_last, 0), (g_others, 1)):
                for name, g in gradients(module, rome_parts(module, batch, gamma)[which]).items():
                    into[name] = into.get(name, 0) + g / accumulate
        names = [n for n in g_last if is_regularised(n)]
        loser, reference = (g_others, g_last) if projected == "exits" else (g_last, g_others)
        a = torch.cat([loser[n].flatten() for n in names]).double()
        b = torch.cat([reference[n].flatten() for n in names]).double()
        c = min(float(a @ b / (b @ b)), 0.0)
        conflicts.append(c)
        assert len(names) == 3 * 6
        wanted = {n: g_last.get(n, 0) + g_others.get(n, 0) for n in found}
        for n in names:
            wanted[n] = wanted[n] - c * reference[n]
        assert_same_gradients(found, wanted)
    assert len(conflicts) == 2
    assert min(conflicts) < -0.05 or not opposed


class FaintRome(RomeBERTModule):
    """Gradients that float16 cannot hold without a loss scale; an optimiser that unscales before its step or in it."""

    fused = False

    def per_exit_losses(self, outputs, batch):
        return super().per_exit_losses(outputs, batch) * 1e-6

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.0, fused=self.fused)


@pytest.mark.parametrize("fused", [False, True])
def test_romebert_in_float16_regularises_as_in_float32(fused):
    found = {}
    for scaled in (False, True):
        module = make(FaintRome, logit_weight=0.0)
        module.fused = fused
        with torch.no_grad():  # the last exit wants the opposite of what the others want
            for index in range(4):
                module.model.exit(index).classifier.load_state_dict(module.model.exit(0).classifier.state_dict())
            module.model.exit(3).classifier[-1].weight.neg_()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
        plugin = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]} if scaled else {}
        (step,) = fit(module, 1, **plugin).steps
        found[scaled] = torch.cat([step[n].flatten() for n in sorted(step) if is_regularised(n)])
    apart = (found[True] - found[False]).norm() / found[False].norm()
    assert apart < 0.02


def test_gradients_are_clipped_in_float16():
    module, plugin = make(RomeBERTModule), MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    steps = fit(module, 2, plugins=[plugin], gradient_clip_val=0.01).steps
    assert all(torch.cat([g.flatten() for g in step.values()]).norm() < 0.011 for step in steps)


def test_romebert_takes_off_what_works_against_the_last_exit():
    g, r = [torch.tensor([1.0, -3.0]), torch.tensor([[-2.0]])], [torch.tensor([1.0, 1.0]), torch.tensor([[2.0]])]
    assert float(conflict(g, r)) == pytest.approx(-6 / 6)
    assert float(conflict([-x for x in g], r)) == 0, "what agrees is left alone"
    assert float(conflict(g, [torch.zeros_like(x) for x in r])) == 0


def test_romebert_regularises_the_matrices_of_shared_layers():
    model = make(RomeBERTModule).model
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)] for p in shared_matrices(model)} == {n for n in names.values() if is_regularised(n)}
    model = make(RomeBERTModule, exit_layers=[1, 2, 4]).model
    layers = {n.split(".")[3] for n, p in model.named_parameters() if any(p is q for q in shared_matrices(model))}
    assert layers == {"0", "1"}
    for family in ("albert", "distilbert", "electra"):
        encoder = make(RomeBERTModule, family=family).model.encoder
        names = {id(p): n for n, p in encoder.named_parameters()}
        found = {names[id(p)] for p in shared_matrices(MultiExitModel(encoder, 3))}
        layers = {n for n in names.values() if "embedding" not in n and "LayerNorm" not in n and "layer_norm" not in n}
        matrices = {n for n in layers if n.endswith("weight")}
        assert found == (matrices if family == "albert" else {n for n in matrices if ".layer.2." not in n}), family


@pytest.mark.parametrize("settings", [{"gradient_regularisation": False}, {"exit_layers": [4]}])
def test_romebert_without_regularisation_is_plain(settings):
    module = make(RomeBERTModule, **settings)
    watch = fit(module, 1)
    module.model.load_state_dict(watch.before[0])
    assert_same_gradients(watch.steps[0], gradients(module, sum(rome_parts(module, labelled(seed=0)))))
