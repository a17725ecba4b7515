"""bf16, fp16 and int8 agree with float32 within the tolerances of docs/reliability.md, for all recipes and policies."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from numerics.measures import counted_rows, step, trained

from mebert import modules
from mebert.inference import make_engine, prepare_model, prepare_policy, run_engine
from mebert.metrics.curve import replay, threshold_for_speedup
from mebert.models import MultiExitModel, model_inputs
from mebert.policies import (
    DistanceRatio,
    Entropy,
    HybridDistanceEntropy,
    LearnedToExit,
    Margin,
    MaxProbability,
    Patience,
    PatientDivergence,
    PatientEntropy,
    TemperatureScaled,
    Voting,
)

# Largest difference to float32 of: a logit, as a share of the logits' standard deviation; a part of the loss, as a
# share of it; the gradient, as a share of its norm.
TRAINING = {
    "bf16-mixed": (0.05, 0.005, 0.02),
    "bf16-true": (0.10, 0.01, 0.04),
    "16-mixed": (0.01, 0.001, 0.005),
    "16-true": (0.02, 0.002, 0.01),
}
# Of: a logit, likewise; the share of rows with another label at an exit; with another exit; the mean exit.
INFERENCE = {
    "float32": (1e-4, 0.0, 0.0, 0.0),
    "bfloat16": (0.10, 0.01, 0.03, 0.02),
    "int8": (0.30, 0.01, 0.06, 0.04),
}
# Between engines and batch sizes, of: a logit at the same exit, likewise; the share of rows with another label; with
# another exit. In float32 up to rounding: no row's score is closer to the threshold than 1e-5.
ENGINES = {"float32": (1e-5, 0.0, 0.0), "bfloat16": (0.05, 0.01, 0.03), "int8": (0.30, 0.02, 0.05)}
POLICIES = [
    Entropy(),
    MaxProbability(),
    Margin(),
    DistanceRatio(),
    HybridDistanceEntropy(),
    Patience(patience=1),
    PatientEntropy(patience=1),
    PatientDivergence(patience=1),
    Voting(),
    LearnedToExit(),
    TemperatureScaled(policy=Entropy(), temperatures=(3.0, 0.5, 1.5)),
]
ROWS = 400


@functools.cache
def float32_step(recipe: str):
    return step(recipe, "32-true")


@pytest.mark.parametrize("precision", TRAINING)
@pytest.mark.parametrize("recipe", modules.__all__)
def test_forward_loss_and_gradient_of_every_recipe(recipe, precision):
    (logits, parts, gradients), (wanted, losses, slopes) = step(recipe, precision), float32_step(recipe)
    of_logits, of_loss, of_gradient = TRAINING[precision]
    assert parts.keys() == losses.keys()
    assert gradients.keys() == slopes.keys()
    assert 0 < (logits - wanted).abs().max() <= of_logits * wanted.std()
    for name, loss in losses.items():
        assert abs(parts[name] - loss) <= of_loss * max(abs(loss), 0.1), name
    one, other = (torch.cat([g[name].flatten() for name in slopes]) for g in (gradients, slopes))
    assert (one - other).norm() <= of_gradient * other.norm()


@functools.cache
def model() -> MultiExitModel:
    with torch.enable_grad():  # a test that needs none may be the first to ask
        return trained()


@functools.cache
def answers(precision: str | None):
    """Logits (E, N, C) and features (E, N, F) of a prepared copy (None: of the model itself), and that copy."""
    kept = model() if precision is None else prepare_model(model(), precision)
    with torch.no_grad():
        out = kept(**model_inputs(counted_rows(ROWS, seed=999)))
    return out.logits.float(), out.features.float(), kept


def test_the_model_has_learnt():
    right = answers(None)[0].argmax(-1) == counted_rows(ROWS, seed=999)["labels"]
    assert right.float().mean(1).min() > 0.85


@pytest.mark.parametrize("precision", INFERENCE)
def test_logits_and_labels_of_the_engines_copy(precision):
    (logits, _, _), (wanted, _, _) = answers(precision), answers(None)
    of_logits, of_labels, _, _ = INFERENCE[precision]
    assert (logits - wanted).abs().max() <= of_logits * wanted.std()
    assert (logits.argmax(-1) != wanted.argmax(-1)).float().mean() <= of_labels


@pytest.mark.parametrize("precision", INFERENCE)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@torch.no_grad()
def test_exits_of_every_policy(policy, precision):
    """At thresholds chosen in float32 for several speeds, as validation chooses them."""
    logits, features, kept = answers(precision)
    wanted_logits, wanted_features, plain = answers(None)
    wanted = policy.bind(plain).score_exits(wanted_logits, wanted_features)
    scores = prepare_policy(policy, kept).score_exits(logits, features)
    thresholds = [threshold_for_speedup(wanted, plain.exit_layers, speedup) for speedup in (1.2, 1.5, 2.0)]
    _, _, of_exits, of_mean = INFERENCE[precision]
    found = [threshold for threshold in thresholds if threshold is not None]
    assert found
    for threshold in found:
        before, after = replay(wanted, threshold), replay(scores, threshold)
        assert (before < plain.num_exits - 1).float().mean() > 0, "some leave early"
        assert (before != after).float().mean() <= of_exits
        assert (before.float().mean() - after.float().mean()).abs() <= of_mean


@pytest.mark.parametrize("precision", ENGINES)
@pytest.mark.parametrize("policy", [Entropy(), DistanceRatio(), PatientEntropy(patience=1)], ids=lambda p: p.name)
@torch.no_grad()
def test_engines_and_batch_sizes_give_the_same_answers(policy, precision):
    """Texts of different lengths: in int8 inputs are scaled by the largest of a batch, which depends on the others."""
    lengths = torch.arange(ROWS // 2) % 9 + 4
    mask = (torch.arange(12) < lengths.unsqueeze(1)).long()
    batch = {"input_ids": counted_rows(ROWS // 2, seed=7)["input_ids"] * mask, "attention_mask": mask}
    plain, fast = model(), prepare_model(model(), precision)
    out = plain(**batch)
    scores = policy.bind(plain).score_exits(out.logits, out.features)
    near = threshold_for_speedup(scores, plain.exit_layers, 2.0)
    values = torch.unique(scores[:-1])
    apart = (values[1:] - values[:-1] > 2e-5).nonzero().squeeze(-1)
    middles = (values[apart] + values[apart + 1]) / 2
    chosen = policy.with_threshold(float(middles[(middles - near).abs().argmin()]))
    found = []
    for name, size in [("full", 200), ("shrink", 1), ("shrink", 8), ("shrink", 200), ("refill", 8), ("refill", 64)]:
        engine = make_engine(name, fast, prepare_policy(chosen, fast), batch_size=size)
        parts = [({key: value[rows] for key, value in batch.items()}, rows) for rows in torch.arange(200).split(size)]
        found.append(run_engine(engine, parts))
    of_logits, of_labels, of_exits = ENGINES[precision]
    first = found[0]
    assert 0 < (first.exits < plain.num_exits - 1).float().mean() < 1, "some leave early"
    for other in found[1:]:
        same = other.exits == first.exits
        assert (~same).float().mean() <= of_exits
        assert (other.logits.argmax(-1) != first.logits.argmax(-1)).float().mean() <= of_labels
        assert (other.logits - first.logits)[same].abs().max() <= of_logits * out.logits.std()
    if precision == "float32":
        assert first.exits.tolist() == replay(scores, chosen.threshold).tolist()


def test_the_tolerances_stand_in_the_docs():
    text = (Path(__file__).parents[2] / "docs/reliability.md").read_text(encoding="utf-8")
    rows = table_rows(text)
    for name, tolerances in TRAINING.items():
        assert rows[name] == [percent(value) for value in tolerances], name
    for name, (*shares, of_mean) in INFERENCE.items():
        assert rows[name] == [*map(percent, shares), f"{of_mean:g}"], name
    for name, tolerances in ENGINES.items():
        assert rows[f"engines, {name}"] == [*map(percent, tolerances)], name


def table_rows(text: str) -> dict[str, list[str]]:
    """The tables' rows by their first cell."""
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}


def percent(value: float) -> str:
    return "0" if not value else f"{100 * value:g} %"
