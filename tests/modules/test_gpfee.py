"""GPFEE against a plain transcription of its formulas; its engines, its cost, its folder."""

import json
from functools import cache

import pytest
import torch
from modules import recipes
from modules.recipes import assert_same_gradients, gradients, labelled
from tiny import counted_flops, tiny_batch
from torch.nn import functional as F

from mebert.errors import UserError
from mebert.exit_predictor import ExitPredictor
from mebert.inference import make_engine, prepare_model, prepare_policy, run_engine, run_shrink
from mebert.metrics.curve import replay
from mebert.models import MultiExitModel, PrototypeBank, model_inputs
from mebert.models.flops import direct_exit_flops, exit_flops, single_exit_flops
from mebert.modules import GPFEEModule
from mebert.policies import DistanceRatio, Entropy, FixedExit, PatientEntropy

LAYERS = 4


def make(num_labels=3, **settings):
    settings = {"pooling": "mean", **settings}
    return recipes.make(GPFEEModule, LAYERS, spread=0.15, num_labels=num_labels, **settings)


def by_hand(model, batch, num_labels):
    """Logits of all exits, their features, and the imitation loss, one sample and one pair of exits at a time.

    Follows the released code: all features up to the exit's, those before it without gradient, then the imagined ones.
    """
    heads = [model.exit(i).classifier for i in range(model.num_exits)]
    size = model.feature_size
    answers, features, distances = [], [], [[] for _ in heads]
    for row in range(len(batch["input_ids"])):
        tokens = int(batch["attention_mask"][row].sum())
        hidden = model.encoder(batch["input_ids"][row : row + 1, :tokens], output_hidden_states=True).hidden_states
        c = [
            torch.tanh(heads[i][0].weight @ hidden[layer][0].mean(0) + heads[i][0].bias)
            for i, layer in enumerate(model.exit_layers)
        ]
        own_answers = []
        for i in range(len(heads)):
            past, key = torch.zeros(num_labels), torch.zeros(num_labels)
            for j in range(i + 1):
                said = heads[j][3].weight @ (c[j] if j == i else c[j].detach()) + heads[j][3].bias
                past, key = past + said[:num_labels], key + said[num_labels:]
            future = torch.zeros(num_labels)
            for j in range(i + 1, len(heads)):
                block = slice((j - 1) * size, j * size)
                imagined = torch.tanh(model.imitate.weight[block] @ c[i] + model.imitate.bias[block])
                future = future + (heads[j][3].weight @ imagined + heads[j][3].bias)[:num_labels]
                true = c[j].detach()
                distances[i].append(1 - imagined @ true / (imagined.norm() * true.norm()))
            gate = torch.sigmoid(model.gate.weight @ torch.tanh(key / (i + 1)) + model.gate.bias)
            own_answers.append(2 * gate * past + (2 - 2 * gate) * future)
        answers.append(torch.stack(own_answers))
        features.append(torch.stack(c))
    imitation = sum(torch.stack(of).mean() for of in distances[:-1]) / (len(heads) - 1)
    return torch.stack(answers, 1), torch.stack(features, 1), imitation


@pytest.mark.parametrize(("num_labels", "exit_layers"), [(3, None), (1, None), (3, [2, 4])])
def test_logits_loss_and_gradients_by_loops(num_labels, exit_layers):
    module, batch = make(num_labels, exit_layers=exit_layers, imitation_weight=0.25), labelled(num_labels=num_labels)
    outputs = module(**model_inputs(batch))
    parts = module.compute_loss(outputs, batch)
    logits, features, imitation = by_hand(module.model, batch, num_labels)
    torch.testing.assert_close(outputs.logits, logits)
    torch.testing.assert_close(outputs.features, features)
    ce, weights = 0.0, 0
    for i, answer in enumerate(logits):
        one = F.mse_loss(answer[:, 0], batch["labels"]) if num_labels == 1 else F.cross_entropy(answer, batch["labels"])
        ce, weights = ce + (i + 1) * one, weights + i + 1
    expected = 0.75 * ce / weights + 0.25 * imitation
    torch.testing.assert_close(parts["loss"], expected)
    torch.testing.assert_close(parts["imitation"], imitation.detach())
    found = gradients(module, parts["loss"])
    assert found.keys() == dict(module.model.named_parameters()).keys()
    assert_same_gradients(found, gradients(module, expected), rtol=1e-3)


@cache
def trained_alike():
    model = make().eval().model
    model.prototypes = PrototypeBank(model.num_exits - 1, model.feature_size, 3, dim=8)
    model.prototypes.update(torch.randn(model.num_exits - 1, 9, 8), torch.arange(9) % 3)
    return model, prepare_model(model)


class Mixed(ExitPredictor):
    """Predicts exit (first token) mod E."""

    def predict(self, input_ids, attention_mask):
        return input_ids[:, 0] % LAYERS


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("engine", ["full", "shrink", "refill", "predicted"])
@pytest.mark.parametrize("policy", [Entropy(), PatientEntropy(patience=2), DistanceRatio(), FixedExit(exit=3)])
def test_engines_take_the_exits_of_the_sweep(fast, engine, policy):
    """Exits that are not asked (fixed, predicted, before patience can fire) are still read on the way."""
    model, prepared = trained_alike()
    policy, rows = policy.bind(model), 40
    batch = tiny_batch(rows, tokens=11, seed=3)
    with torch.inference_mode():
        out = model(**batch)
        scores = policy.score_exits(out.logits, out.features)
    values = scores[:-1][scores[:-1].isfinite()].sort().values
    if engine == "predicted":
        exits = Mixed(model.num_exits).predict(**batch)
    elif isinstance(policy, FixedExit):
        exits = torch.full((rows,), 2)
    else:
        gaps = ((values[1:] + values[:-1]) / 2)[values[1:] - values[:-1] > 1e-4]
        policy = policy.with_threshold(float(gaps[len(gaps) // 2]))
        exits = replay(scores, policy.threshold)
        assert len(exits.unique()) > 2
    chosen, rule = (prepared, prepare_policy(policy, prepared)) if fast else (model, policy)
    parts = [({n: v[r] for n, v in batch.items()}, r) for r in torch.arange(rows).split(7)]
    done = run_engine(make_engine(engine, chosen, rule, batch_size=5, predictors=[Mixed(model.num_exits)]), parts)
    assert done.exits.tolist() == exits.tolist()
    torch.testing.assert_close(done.logits, out.logits[exits, torch.arange(rows)], atol=1e-4, rtol=1e-4)


def test_bfloat16_stays_near_and_answers_in_float32():
    model, _ = trained_alike()
    batch = tiny_batch(12, seed=2)
    with torch.inference_mode():
        wanted, found = model(**batch), prepare_model(model, "bfloat16")(**batch)
    assert found.logits.dtype == torch.float32
    torch.testing.assert_close(found.logits, wanted.logits, atol=0.15, rtol=0.1)


@pytest.mark.parametrize("pooling", ["mean", "fastbert"])
def test_flops_equal_to_the_counter(pooling):
    model = make(pooling=pooling).eval().model
    batch = tiny_batch(batch=2, tokens=9, padded=False)
    lengths = batch["attention_mask"].sum(1)
    assert exit_flops(model, lengths)[-1].sum() == counted_flops(lambda: model(**batch))
    assert single_exit_flops(model, lengths).sum() == counted_flops(lambda: model.last_exit(**batch))
    for index in range(LAYERS):
        state = model.start(**batch)
        straight = direct_exit_flops(model, lengths)[index].sum()
        assert straight == counted_flops(lambda s=state, i=index: model.step(s, i))
        assert straight == counted_flops(lambda i=index: run_shrink(model, FixedExit(exit=i + 1), batch))
        tried = exit_flops(model, lengths)[index].sum()
        assert tried == counted_flops(
            lambda i=index: list(zip(range(i + 1), model.forward_layers(**batch), strict=False))
        )


def test_a_class_that_was_not_imported_is_refused(tmp_path):
    make().model.save_pretrained(tmp_path, policy=Entropy(0.4))
    settings = json.loads((tmp_path / "exits.json").read_text())
    (tmp_path / "exits.json").write_text(json.dumps({**settings, "model": "os.system"}))
    with pytest.raises(UserError, match=r"class 'os\.system', which is no imported"):
        MultiExitModel.from_pretrained(tmp_path)
