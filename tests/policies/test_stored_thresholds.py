import json

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import tiny_model, words_tokenizer

from mebert import EarlyExitClassifier
from mebert.errors import UserError
from mebert.metrics.curve import replay, speedup_layers, threshold_for_speedup
from mebert.policies import FPABEE, Entropy, PatientDivergence, PatientEntropy, policy_from_spec
from mebert.policies.stored_thresholds import (
    checkpoint_threshold,
    store_thresholds,
    stored_threshold,
    thresholds_beside,
)
from mebert.storage.model_spec import ModelSpec


def test_the_model_folder_must_hold_the_checkpoints_exits(tmp_path):
    model = tiny_model()
    checkpoint = tmp_path / "checkpoints/best.ckpt"
    state = {f"model.{name}": value for name, value in model.state_dict().items()}

    def threshold(state, policy):
        return checkpoint_threshold(checkpoint, state, policy, {}, max_drop=0.01)

    with pytest.raises(UserError, match="no calibrated model folder"):
        threshold(state, Entropy())
    model.save_pretrained(tmp_path / "model", policy=Entropy())
    store_thresholds(tmp_path / "model", {"max_drops": {"entropy": {0.01: 0.25}}})
    assert threshold(state, Entropy(0.3)) == 0.25
    name = next(name for name in state if ".exits." in name)
    with pytest.raises(UserError, match="holds other exits than"):
        threshold({**state, name: state[name] + 1e-3}, Entropy())
    store_thresholds(tmp_path / "model", {}, use=PatientEntropy(0.4, patience=3))
    assert thresholds_beside(checkpoint, state, PatientEntropy(0.1, patience=3), {})[1] == {"entropy": {0.01: 0.25}}
    with pytest.raises(UserError, match="another pcee than"):
        threshold(state, PatientEntropy(0.4, patience=2))


def test_storing_keeps_the_rest_and_a_guarantee_wins(tmp_path):
    tiny_model().save_pretrained(tmp_path, policy=Entropy(0.4), operating_points={"entropy": {2.0: 0.5}})
    store_thresholds(tmp_path, {"operating_points": {"entropy": {3.0: 0.7}, "max_prob": {2.0: 0.1}}})
    store_thresholds(tmp_path, {"max_drops": {"entropy": {0.01: 0.3, 0.02: 0.35}}})
    store_thresholds(tmp_path, {"guarantees": {"entropy": {0.01: {"threshold": 0.2, "delta": 0.1}}}})
    spec = ModelSpec.read(tmp_path)
    assert spec.operating_points == {"entropy": {2.0: 0.5, 3.0: 0.7}, "max_prob": {2.0: 0.1}}
    assert spec.policy["init_args"]["threshold"] == 0.4
    assert spec.thresholds_for_max_drop() == {"entropy": {0.01: 0.2, 0.02: 0.35}}


def test_thresholds_go_with_the_settings_that_they_were_chosen_for(tmp_path):
    own = PatientEntropy(0.4, patience=3)
    tiny_model().save_pretrained(tmp_path, policy=own)
    everything = {name: {2.0: 0.5} for name in ("pcee", "entropy", "f_pabee")}
    store_thresholds(tmp_path, {"operating_points": everything, "max_drops": everything})

    def kept():
        spec = ModelSpec.read(tmp_path)
        assert {*spec.operating_points} == {*spec.max_drops}
        return {*spec.max_drops}

    def use(policy):
        return store_thresholds(tmp_path, {}, use=policy)

    assert use(own.with_threshold(0.1)) == [], "another threshold is no other rule"
    assert use(Entropy(0.2)) == ["pcee"], "by that name the plain one is meant from now on"
    assert kept() == {"entropy", "f_pabee"}
    assert use(FPABEE(0.2, patience=1)) == ["f_pabee"], "others were for the plain one"
    assert kept() == {"entropy"}
    assert ModelSpec.read(tmp_path).policy["init_args"]["patience"] == 1


@pytest.mark.parametrize("own", [Entropy(0.2), PatientDivergence(0.2)])
def test_f_pabee_of_0_1_0_is_the_divergence_or_gone(tmp_path, own):
    tiny_model().save_pretrained(tmp_path, policy=own, operating_points={"f_pabee": {2.0: 0.5}, "entropy": {2.0: 0.4}})
    content = json.loads((tmp_path / "exits.json").read_text())
    del content["mebert_version"]
    content["policy"]["init_args"].pop("measure", None)
    (tmp_path / "exits.json").write_text(json.dumps(content))
    if own.name == "f_pabee":
        assert ModelSpec.read(tmp_path).operating_points == {"entropy": {2.0: 0.4}, "f_pabee": {2.0: 0.5}}
        assert policy_from_spec(ModelSpec.read(tmp_path).policy) == own
        assert store_thresholds(tmp_path, {}, use=Entropy(0.1)) == ["f_pabee"], "by that name another is meant now"
    else:
        with pytest.warns(UserWarning, match="thresholds of f_pabee are for the divergence.*calibrate the model"):
            assert ModelSpec.read(tmp_path).operating_points == {"entropy": {2.0: 0.4}}


SCORES = st.sampled_from([0.0, 0.5, 1.0 - 2.0**-24, 1.0, float("inf")])
SPEEDUPS = st.sampled_from([1.2, 1.5, 2.0, 3.0])


@settings(max_examples=200, deadline=None)
@given(table=st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=8), speedup=SPEEDUPS)
@example(table=[(0.5, 0.5), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)], speedup=3.0)  # was 1.2
def test_a_stored_threshold_gives_the_speed_that_it_is_stored_for(table, speedup):
    """Whatever the scores are; 1 is the highest one that there is, infinity means that nobody may leave."""
    scores = torch.cat([torch.tensor(table).T, torch.zeros(1, len(table))])
    found = threshold_for_speedup(scores, [1, 2, 3], speedup)
    if found is None:
        assert speedup_layers(replay(scores, float("inf")), [1, 2, 3]) < speedup
        return
    points = json.loads(json.dumps({"entropy": {speedup: found}}), object_pairs_hook=_numbers)
    policy = Entropy().with_threshold(stored_threshold("entropy", points, {}, speedup))
    again = policy_from_spec(json.loads(json.dumps(policy.spec())))
    assert speedup_layers(replay(scores, again.threshold), [1, 2, 3]) >= speedup


def _numbers(pairs):
    return {key if key == "entropy" else float(key): value for key, value in pairs}


def test_texts_at_the_highest_score_leave_at_the_speed_that_lets_them(tmp_path):
    model = tiny_model(num_labels=2)
    with torch.no_grad():
        for index in range(model.num_exits):  # uniform predictions: an entropy of exactly 1
            for parameter in model.exit(index).classifier[-1].parameters():
                parameter.zero_()
    texts = ["w1 w2", "w3", "w4 w5 w6", "w7"]
    tokenizer = words_tokenizer()
    out = model(**tokenizer(texts, padding=True, return_tensors="pt"))
    scores = Entropy().score_exits(out.logits, out.features)
    assert bool((scores == 1).all())
    found = threshold_for_speedup(scores, model.exit_layers, 3.0)
    model.save_pretrained(tmp_path, tokenizer, Entropy(0.5), operating_points={"entropy": {3.0: found}})
    classify = EarlyExitClassifier.from_pretrained(tmp_path)
    assert [one.exit for one in classify(texts, speedup=3)] == [1, 1, 1, 1]
    assert [one.exit for one in classify(texts, threshold=1.0)] == [3, 3, 3, 3], "below the threshold, not at it"
    store_thresholds(tmp_path, {}, use=Entropy(found))
    assert [one.exit for one in EarlyExitClassifier.from_pretrained(tmp_path)(texts)] == [1, 1, 1, 1]
    with pytest.raises(UserError, match=r"threshold must be in \[0, 1\], got 1.1"):
        classify(texts, threshold=1.1)
