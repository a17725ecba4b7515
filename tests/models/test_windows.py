"""Texts in windows: exits are the mean of the windows', a text leaves as a whole, and costs what its windows run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import SIZES, counted_flops, tiny_batch, tiny_model

from mebert.commands.bench.baselines import HuggingFaceModel, hugging_face_model
from mebert.data.tokenised import collate
from mebert.exit_predictor import FrequencyExitPredictor
from mebert.inference import make_engine, prepare_model, run_engine
from mebert.models import PastFutureModel
from mebert.models.cascade import CascadeModel
from mebert.models.flops import exit_flops, single_exit_flops
from mebert.models.windows import mean_of_windows, stacked_inputs
from mebert.modules.elasticbert import equilibrium_outputs
from mebert.modules.geep import shared_exit_outputs
from mebert.modules.teacher_sources import Teacher
from mebert.modules.two_stage import staged_outputs
from mebert.policies import Entropy, Stacked

WINDOW = 8
LENGTHS = (20, 3, 8, 9, 16, 5, 30, 8)


def rows_of(lengths=LENGTHS, window=WINDOW):
    """Rows of so many random tokens, to be read in windows."""
    generator = np.random.default_rng(0)
    return [{"input_ids": generator.integers(5, 50, n), "index": i, "window": window} for i, n in enumerate(lengths)]


def batch_of(rows):
    batch = collate(rows, pad_token_id=1)
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@torch.no_grad()
def by_hand(model, rows):
    """Every window by itself through the model, and the mean of a text's: logits and features, (E, N, ...)."""
    found = []
    for row in rows:
        parts = [
            torch.as_tensor(row["input_ids"][at : at + WINDOW])[None] for at in range(0, len(row["input_ids"]), WINDOW)
        ]
        outputs = [model(part, torch.ones_like(part)) for part in parts]
        found.append([torch.cat([getattr(o, name) for o in outputs], 1).mean(1) for name in ("logits", "features")])
    return [torch.stack(values, 1) for values in zip(*found, strict=True)]


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


MODELS = {family: tiny_model(family, pooling="mean") for family in SIZES}
MODELS["gpfee"] = PastFutureModel(tiny_model().encoder, num_labels=3).eval()
MODELS["cascade"] = CascadeModel([tiny_model(), tiny_model("bert", pooling="mean")]).eval()


@pytest.mark.parametrize("name", MODELS)
def test_exits_are_the_mean_of_the_windows(name):
    model, rows = MODELS[name], rows_of()
    batch = batch_of(rows)
    assert batch["input_ids"].shape == (8, 4, WINDOW)
    logits, features = by_hand(model, rows)
    for one in (model, prepare_model(model)):
        with torch.no_grad():
            outputs = one(**batch)
        assert_close(outputs.logits, logits)
        assert_close(outputs.features, features)


def test_training_passes_of_recipes_average_windows_too():
    model, batch = MODELS["bert"], batch_of(rows_of())
    plain = model(**batch)
    passes = [equilibrium_outputs(model, batch), shared_exit_outputs(model, batch)]
    for outputs in [*passes, *(staged_outputs(model, batch, second) for second in (False, True))]:
        assert_close(outputs.logits, plain.logits)
        assert_close(outputs.features, plain.features)
    assert passes[1].shared.shape[1] == len(LENGTHS)


def test_a_hugging_face_classifier_averages_windows_as_teacher_and_in_bench():
    theirs, rows = hugging_face_model(MODELS["bert"], torch.device("cpu")), rows_of()
    teacher = Teacher(theirs)
    alone = [torch.as_tensor(row["input_ids"][at : at + WINDOW])[None] for row in rows[:1] for at in (0, 8, 16)]
    wanted = torch.cat([theirs(part, torch.ones_like(part)).logits for part in alone]).mean(0)
    batch = batch_of(rows)
    assert_close(teacher(batch)[0], wanted)
    assert_close(HuggingFaceModel(theirs).feed(batch, torch.arange(len(rows))).logits[0], wanted)


def test_batches_of_texts_with_one_window_are_those_without_windows():
    rows = rows_of((3, 8, 5))
    with_windows, without = collate(rows, 1), collate([row | {"window": None} for row in rows], 1)
    assert all(torch.equal(with_windows[name], without[name]) for name in without)
    values = torch.randn(3, 7)
    assert torch.equal(mean_of_windows(values, np.ones(3, dtype=np.int64)), values)  # beside longer texts, too


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpfee", "cascade"])
def test_engines_agree_with_full(name):
    model = MODELS[name]
    rows = rows_of(LENGTHS * 2)
    batches = [rows[:3], rows[3:6], rows[5:6], rows[6:]]
    numbered = [(batch_of(part), torch.tensor([row["index"] for row in part])) for part in batches if part]
    scores = Entropy().score_exits(*(lambda o: (o.logits, o.features))(model(**batch_of(rows))))
    ranked = scores[:-1].detach().flatten().sort().values
    policy = Entropy(threshold=float(ranked[len(ranked) // 2 - 1 :][:2].mean()))  # between two scores
    predictor = FrequencyExitPredictor(model.num_exits, 50).fit(torch.arange(50))
    fast = prepare_model(model)
    full = run_engine(make_engine("full", fast, policy), numbered)
    assert len(full.exits.unique()) > 1
    for engine in ("shrink", "refill"):
        found = run_engine(make_engine(engine, fast, policy, batch_size=4), numbered)
        assert found.exits.tolist() == full.exits.tolist(), engine
        assert_close(found.logits, full.logits)
    predictor.origin = None
    found = run_engine(make_engine("predicted", fast, policy, batch_size=4, predictors=[predictor]), numbered)
    flat = batch_of([row | {"window": None} for row in rows])
    wanted = predictor.predict(**flat)
    outputs = model(**batch_of(rows))
    where = torch.tensor([row["index"] for part in batches for row in part]).sort().values
    assert found.exits.tolist() == wanted[where].tolist()
    assert_close(found.logits, outputs.logits[found.exits, where])


def test_a_policy_sees_the_tokens_of_the_whole_text():
    batch = batch_of(rows_of())
    assert Stacked().start(batch["attention_mask"].flatten(1))[2].exp().round().tolist() == list(map(float, LENGTHS))


def test_flops_are_those_of_all_windows():
    model = tiny_model("bert")
    model.window = WINDOW
    for row in rows_of((20, 8, 5, 16)):
        length = torch.tensor([len(row["input_ids"])])
        parts = [torch.as_tensor(row["input_ids"][at : at + WINDOW])[None] for at in range(0, int(length), WINDOW)]
        ran = sum(counted_flops(lambda p=part: model.last_exit(p, torch.ones_like(p))) for part in parts)
        assert single_exit_flops(model, length).sum() == ran
        asked = sum(counted_flops(lambda p=part: model(p, torch.ones_like(p))) for part in parts)
        assert exit_flops(model, length)[-1].sum() == asked


def test_batches_with_and_without_windows_are_stacked():
    parts = [tiny_batch(2, 5), batch_of(rows_of((20, 3)))]
    joined = stacked_inputs(parts)
    assert joined["input_ids"].shape == (4, 3, WINDOW)
    with torch.no_grad():
        assert_close(MODELS["bert"](**joined).logits, torch.cat([MODELS["bert"](**part).logits for part in parts], 1))
