"""From adaptive runs of a real model to predictors: the exits learnt are those that the engine takes."""

import numpy as np
import pytest
import torch
from tiny import VOCABULARY, tiny_model

from mebert import Entropy, FixedExit, TokenExitPredictor, UserError
from mebert.data.tokenised import TokenisedSplit, collate
from mebert.exit_predictor import (
    ExitPredictor,
    PredictorSettings,
    choose_exits,
    choose_predictor,
    fit_from_scores,
    fit_predictor,
    load_predictors,
    predictor_from_state,
    save_predictors,
    score_rows,
)
from mebert.exit_predictor.fitting import distribution_of
from mebert.inference import run_shrink
from mebert.metrics.curve import replay, speedup_layers


def random_split(rows=40, seed=0):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 12, rows)
    tokens = generator.integers(5, VOCABULARY, lengths.sum()).astype(np.int32)
    return TokenisedSplit(tokens, np.concatenate([[0], np.cumsum(lengths)]), None, np.arange(rows))


def spread_threshold(model, split):
    """A threshold in the middle of the scores, away from every one of them."""
    scores = score_rows(model, Entropy(), split).scores[:-1].flatten().sort().values
    middle = len(scores) // 2
    gaps = scores[middle - 5 : middle + 5].diff()
    place = middle - 5 + int(gaps.argmax())
    return float((scores[place] + scores[place + 1]) / 2)


@pytest.fixture(scope="module")
def made():
    model, split = tiny_model(), random_split()
    policy = Entropy(spread_threshold(model, split))
    taken = []
    for row in range(len(split)):
        batch = collate([split[row]], 0)
        del batch["index"]
        taken.append(run_shrink(model, policy, batch).exits)
    return model, split, policy, torch.cat(taken)


def test_the_pass_takes_the_exits_of_the_engine(made):
    model, split, policy, taken = made
    assert len(set(taken.tolist())) > 1
    scored = score_rows(model, policy, split, batch_size=7)
    assert torch.equal(replay(scored.scores, policy.threshold), taken)


def test_the_table_has_counted_those_exits(made):
    model, split, policy, taken = made
    predictor = fit_predictor(model, policy, split, coverage=None)
    counts = torch.zeros_like(predictor.counts)
    for row, exit_index in enumerate(taken.tolist()):
        for token in split[row]["input_ids"]:
            counts[token, exit_index] += 1
    assert torch.equal(predictor.counts, counts)
    assert predictor.coverage is None
    assert (predictor.origin.policy, predictor.origin.threshold) == ("entropy", policy.threshold)
    assert predictor.origin.rows == 40


@pytest.mark.parametrize("kind", ["token", "linear"])
def test_match_is_no_slower_than_the_policy_on_fresh_rows(made, kind):
    model, split, policy, _ = made
    fresh = score_rows(model, policy, random_split(seed=1), kind)
    scored = score_rows(model, policy, split, kind)
    predictor = fit_from_scores(model, scored, policy, PredictorSettings(kind), fresh=fresh)
    distribution = distribution_of(predictor, fresh)
    target = speedup_layers(replay(fresh.scores, policy.threshold), model.exit_layers)
    assert speedup_layers(choose_exits(distribution, predictor.coverage), model.exit_layers) >= target
    batch = collate([fresh.rows[row] for row in range(40)], 0)
    by_batch = predictor.distribution(batch["input_ids"], batch["attention_mask"])
    assert torch.allclose(by_batch, distribution, atol=1e-5)


def test_match_without_fresh_rows_leaves_each_sample_out(made):
    model, split, policy, taken = made
    predictor = fit_predictor(model, policy, split)
    left_out = predictor.leave_one_out(torch.from_numpy(split.tokens), torch.from_numpy(split.offsets), taken)
    target = speedup_layers(taken, model.exit_layers)
    assert speedup_layers(choose_exits(left_out, predictor.coverage), model.exit_layers) >= target


def test_the_model_keeps_its_mode_and_weights(made):
    _, split, policy, _ = made
    model = tiny_model().train()
    model.encoder.eval()  # a frozen part
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fit_predictor(model, policy, split, kind="linear")
    assert (model.training, model.encoder.training) == (True, False)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_policy_that_never_hesitates_is_predicted_without_fault(made):
    model, split, _, _ = made
    predictor = fit_predictor(model, FixedExit(exit=2), split)
    batch = collate([split[row] for row in range(40)], 0)
    assert predictor.predict(batch["input_ids"], batch["attention_mask"]).tolist() == [1] * 40


def test_one_predictor_an_operating_point(made, tmp_path):
    model, split, policy, _ = made
    scored = score_rows(model, policy, split)
    points = {policy.threshold: None, 0.999: 2.0}
    made_of = [
        fit_from_scores(model, scored, policy.with_threshold(t), PredictorSettings(), s) for t, s in points.items()
    ]
    save_predictors(tmp_path, made_of)
    loaded = load_predictors(tmp_path)
    assert [found.origin for found in loaded] == [found.origin for found in made_of]
    assert choose_predictor(loaded, policy.with_threshold(0.999)).origin.speedup == 2.0
    assert choose_predictor(loaded, policy) is loaded[0]
    with pytest.raises(UserError, match=r"entropy at threshold 0.25 \(stored: .*0\.999 \(2x\)"):
        choose_predictor(loaded, policy.with_threshold(0.25))
    save_predictors(tmp_path, [])
    assert load_predictors(tmp_path) == []
    with pytest.raises(UserError, match="--exit_prediction"):
        choose_predictor([], policy)
    of_unknown_origin = TokenExitPredictor(3, 10)
    assert choose_predictor([of_unknown_origin], policy) is of_unknown_origin


def test_damaged_files_are_told(tmp_path, made):
    fit_predictor(made[0], made[2], made[1]).save(tmp_path)
    (tmp_path / "exit_predictor.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match=r"exit_predictor.json: .*header too small"):
        load_predictors(tmp_path)
    for text, message in (
        ("{", "is not valid JSON"),
        ('{"format": 2, "predictors": []}', "exit_predictor.json: .*format.* should be 1"),
        ('{"format": 1, "predictors": [{"class_path": "x"}]}', "it lacks .*predictors.0.init_args"),
    ):
        fit_predictor(made[0], made[2], made[1]).save(tmp_path)
        (tmp_path / "exit_predictor.json").write_text(text)
        with pytest.raises(UserError, match=message):
            load_predictors(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "forest"}, "kind"),
        ({"kind": "linear", "ngram": 2}, "ngram"),
        ({"coverage": "most"}, "match"),
        ({"coverage": 0.0}, "coverage"),
        ({"kind": "static", "ngram": 2}, "kind static reads no runs"),
        ({"ngram": 0}, "ngram"),
        ({"prior_strength": 0.0}, "prior_strength"),
    ],
)
def test_wrong_settings(made, wrong, says):
    with pytest.raises(UserError, match=says):
        fit_predictor(made[0], made[2], made[1], **wrong)
    with pytest.raises(UserError, match="rows is empty"):
        fit_predictor(made[0], made[2], made[1].select(np.arange(0)))


@pytest.mark.parametrize(
    "settings", [{"kind": "token"}, {"kind": "token", "ngram": 2}, {"kind": "static"}, {"kind": "linear"}], ids=str
)
def test_saved_and_loaded(made, tmp_path, settings):
    model, split, policy, _ = made
    predictor = fit_predictor(model, policy, split, speedup=1.5, **settings)
    predictor.save(tmp_path)
    batch = collate([split[row] for row in range(8)], 0)
    inputs = batch["input_ids"], batch["attention_mask"]
    for other in (ExitPredictor.load(tmp_path), predictor_from_state(predictor.state())):
        assert (other.origin, other.settings()) == (predictor.origin, predictor.settings())
        assert torch.equal(other.bind(model).distribution(*inputs), predictor.distribution(*inputs))
