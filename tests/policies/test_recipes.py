"""Every policy with every recipe: fitted on a recorded pass, saved, opened, and run by engines as the sweep says."""

from __future__ import annotations

import json
from functools import cache

import lightning as L
import pytest
import torch
from tiny import tiny_batch, tiny_config
from torch.utils.data import DataLoader

import mebert
from mebert.inference import make_engine, prepare_model, prepare_policy, run_engine
from mebert.metrics.curve import ExitRecord, replay
from mebert.models import MultiExitModel, fit_prototypes
from mebert.models.exit_scorer import fit_exit_scorer
from mebert.models.multi_exit import model_inputs
from mebert.policies import (
    DistanceRatio,
    Entropy,
    FixedExit,
    HybridDistanceEntropy,
    LearnedToExit,
    Margin,
    MaxProbability,
    Patience,
    PatientDivergence,
    PatientEntropy,
    Stacked,
    TemperatureScaled,
    ValueChange,
    Voting,
    policy_from_spec,
)

SETTINGS = {"FastBERTModule": {"stage1_epochs": 1}, "DeeBERTModule": {"stage1_epochs": 1}}
RECIPES = sorted(name for name in mebert.__all__ if name.endswith("Module") and "Data" not in name)
POLICIES = [
    Entropy(),
    MaxProbability(),
    Margin(),
    DistanceRatio(),
    HybridDistanceEntropy(lam=0.5),
    Patience(patience=1),
    PatientEntropy(patience=2),
    PatientDivergence(patience=1),
    Voting(),
    LearnedToExit(),
    TemperatureScaled(policy=HybridDistanceEntropy()),
    TemperatureScaled(policy=PatientEntropy(patience=1)),
    Stacked(),
    FixedExit(exit=2),
]
OF_ESTIMATES = [ValueChange(), LearnedToExit(), FixedExit(exit=2)]
PAIRS = [(recipe, policy, 3) for recipe in RECIPES for policy in POLICIES]
PAIRS += [(recipe, policy, 1) for recipe in RECIPES if recipe != "ProtoExitModule" for policy in OF_ESTIMATES]
ROWS = 48


def rows(num_labels):
    batch = tiny_batch(ROWS, tokens=9, seed=1)
    # What the label says can be read off the first token, in part.
    labels = batch["input_ids"][:, 0] % 3
    return {**batch, "labels": labels if num_labels > 1 else labels.float(), "index": torch.arange(ROWS)}


@cache
def trained(recipe, num_labels):
    """A tiny model of the recipe after two epochs, with prototypes and, where it learns none, a head that says when."""
    torch.manual_seed(0)
    config = {"encoder_config": tiny_config("bert", num_hidden_layers=4), "num_labels": num_labels, "dropout": 0.0}
    module = getattr(mebert, recipe)(**config, learning_rate=3e-3, **SETTINGS.get(recipe, {}))
    batch = rows(num_labels)
    loader = DataLoader([{name: value[i] for name, value in batch.items()} for i in range(ROWS)], batch_size=12)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    model = module.eval().model
    if model.prototypes is None and num_labels > 1:
        model.prototypes = fit_prototypes(model, [batch])
    if model.exit_scorer is None:
        with torch.no_grad():
            out = model(**model_inputs(batch))
        model.exit_scorer = fit_exit_scorer(out.features, out.logits, batch["labels"])
    return model, prepare_model(model)


@cache
def opened(recipe, num_labels, folder):
    trained(recipe, num_labels)[0].save_pretrained(folder)
    return MultiExitModel.from_pretrained(folder)


@torch.no_grad()
def recorded(model, policy):
    batch = rows(model.num_labels)
    out = model(**model_inputs(batch))
    policies = {p.name: p.bind(model) for p in ([DistanceRatio()] if model.num_labels > 1 else []) + [policy]}
    mask = batch["attention_mask"]
    scores = {name: p.score_exits(out.logits, out.features, mask) for name, p in policies.items()}
    return ExitRecord(out.logits, batch["labels"], batch["index"], batch["attention_mask"].sum(1), scores), out


@torch.no_grad()
@pytest.mark.parametrize(
    ("recipe", "policy", "num_labels"),
    PAIRS,
    ids=lambda p: p if isinstance(p, str | int) else f"{p.name}-{type(getattr(p, 'policy', p)).__name__}",
)
def test_pair(recipe, policy, num_labels, tmp_path_factory):
    model, fast = trained(recipe, num_labels)
    policy = policy_from_spec(policy.spec())
    record, out = recorded(model, policy)
    policy = policy.fitted(record).bind(model)
    scores = policy.score_exits(out.logits, out.features, rows(num_labels)["attention_mask"])
    # A threshold with room to the scores on both sides, so that rounding turns no decision.
    values = scores[:-1].flatten()
    values = torch.cat([torch.tensor([0.0, 1.0]), values[values.isfinite()]]).sort().values
    gaps = ((values[1:] + values[:-1]) / 2)[values[1:] - values[:-1] > 1e-4]
    policy = policy.with_threshold(float(gaps[len(gaps) // 2]))
    exits = replay(scores, policy.threshold)
    saved = opened(recipe, num_labels, str(tmp_path_factory.getbasetemp() / f"{recipe}_{num_labels}"))
    loaded = policy_from_spec(json.loads(json.dumps(policy.spec()))).bind(saved)
    batch = model_inputs(rows(num_labels))
    for runner in (
        make_engine("shrink", fast, prepare_policy(policy, fast)),
        make_engine("shrink", saved, loaded),
        make_engine("refill", fast, prepare_policy(policy, fast), batch_size=5),
    ):
        parts = [({name: value[r] for name, value in batch.items()}, r) for r in torch.randperm(ROWS).split(7)]
        done = run_engine(runner, parts)
        assert done.exits.tolist() == exits.tolist()
        expected = out.logits[exits, torch.arange(ROWS)]
        torch.testing.assert_close(done.logits, expected, atol=1e-3, rtol=1e-3)
